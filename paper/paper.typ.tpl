// A one-column preprint with the fonts that come with Typst: the same pages on every machine.
#let ink = rgb("#1f4e8c")
#let marks = ($for(marks)$"$marks$",$endfor$)
#set document(title: "$title-plain$")
#set text(font: "New Computer Modern", size: 10.5pt, lang: "en")
#set page(
  paper: "a4",
  margin: (x: (210mm - 6.4in) / 2, y: 2.7cm), // the text is as wide as figures are made (analysis/style.py)
  numbering: "1",
  number-align: center,
  header: if marks.len() > 0 {
    align(right, text(size: 8pt, style: "italic", fill: rgb("#b03030"), marks.join(" · ")))
  },
  background: if marks.len() > 0 {
    rotate(-52deg, text(size: 58pt, weight: "bold", fill: rgb("#b0303012"), "$watermark$"))
  },
)
#show math.equation: set text(font: "New Computer Modern Math")
#show raw: set text(font: "DejaVu Sans Mono", size: 0.82em)
#set par(justify: true, leading: 0.58em, spacing: 0.58em, first-line-indent: 1.2em)

#set heading(numbering: "1.1")
#show heading: set text(hyphenate: false)
#show heading.where(level: 1): set text(size: 0.9em)
#show heading.where(level: 2): set text(size: 0.92em)
#show heading: it => block(above: 1.4em, below: 0.75em, sticky: true)[
  #if it.numbering != none [#counter(heading).display(it.numbering)#h(0.7em)]#it.body
]

#set math.equation(numbering: "(1)")
#show math.equation.where(block: true): set block(above: 1em, below: 1em)
// Only labelled equations are counted.
#show math.equation.where(block: true): it => if it.has("label") or it.numbering == none { it } else {
  counter(math.equation).update(n => n - 1)
  math.equation(block: true, numbering: none, it.body)
}

#set list(indent: 0.5em, body-indent: 0.6em, spacing: 0.75em)
#set enum(indent: 0.5em, body-indent: 0.6em, spacing: 0.75em)
#show list: set block(above: 0.9em, below: 0.9em)
#show enum: set block(above: 0.9em, below: 0.9em)
#show quote.where(block: true): set pad(x: 1.4em)
#show raw.where(block: true): it => block(width: 100%, inset: (x: .8em, y: .6em), fill: luma(246), radius: 2pt, it)

#set table(stroke: none, inset: (x: 0.42em, y: 0.36em))
#set table.hline(stroke: 0.45pt)
#show table: it => {
  // Ids are long: they may break behind a mark.
  show raw: it => { show regex("[._]"): mark => mark + sym.zws; it }
  block(spacing: 0pt, stroke: (top: 0.8pt, bottom: 0.8pt), inset: (y: 0.15em), it)
}
#show table: set text(size: 0.84em)
#show table: set par(justify: false)
// Figures go to the top of this page or of the next, so that text fills the page; tables stand where they are.
#set figure(placement: top, gap: 0.8em)
#show figure.where(kind: table): set figure(placement: none)
#show figure.where(kind: table): set figure.caption(position: top)
#show figure.where(kind: table): set block(above: 1.6em, below: 1.6em)
#show <tbl:ledger>: set block(breakable: true)
#show figure.caption: it => block(spacing: 0pt, width: 100%, align(left, text(size: 0.88em, par(
  first-line-indent: 0pt, justify: true,
)[*#it.supplement #context it.counter.display(it.numbering).* #it.body])))
#set image(width: 100%)

#show link: set text(fill: ink)
#show ref: set text(fill: ink)
#show cite: set text(fill: ink)
#show bibliography: set text(size: 0.88em)
#show bibliography: set par(first-line-indent: 0pt, justify: false)

#let appendix(body) = {
  counter(heading).update(0)
  set heading(numbering: "A.1", supplement: [Appendix])
  set figure(placement: none)
  show figure: set block(above: 1.9em, below: 1.9em)
  body
}
#let horizontalrule = line(length: 100%, stroke: .4pt)

#{
  set par(first-line-indent: 0pt, justify: false)
  set align(center)
  text(size: 1.45em, weight: "bold", hyphenate: false)[$title$]
  v(0.7em)
  text(size: 0.95em)[$subtitle$]
  v(0.2em)
  text(size: 0.85em, fill: luma(90))[$byline$]
  v(0.8em)
  if marks.len() > 0 {
    block(
      stroke: 0.8pt + rgb("#b03030"), inset: 0.7em, radius: 2pt, width: 100%,
      text(fill: rgb("#b03030"))[*#marks.join(" · ")*],
    )
    v(0.6em)
  }
  pad(x: 1.0cm)[
    #text(weight: "bold", size: 0.95em)[Abstract]
    #set par(justify: true)
    #set text(size: 0.93em)
    #set align(left)
    $abstract$
  ]
  v(0.6em)
}

$body$
