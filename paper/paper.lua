-- Markdown as pandoc reads it -> Typst or LaTeX with numbered cross-references.
--   [@fig:x] [@tbl:x] [@sec:x] [@eq:x]   references; other keys are citations, resolved by Typst or natbib
--   $$ … $$ {#eq:x}                      a numbered equation
--   a table row of `\midrule`            a rule across the table
--   a table row of `\heading` and words  a heading across the table
--   # Title {.appendix}                  from here on, headings are lettered
-- What one of the two writers would drop without a word stops the build.

local KINDS = { fig = "Figure", tbl = "Table", sec = "Section", eq = "Equation" }
local latex = FORMAT:match("latex") ~= nil
local format = latex and "latex" or "typst"
local appended = {} -- labels of sections behind the appendix

local function raw(text) return pandoc.RawInline(format, text) end
local function block(text) return pandoc.RawBlock(format, text) end

-- Ids and hashes are long: TeX may break them after a mark, and after eight letters without one.
local TEX = {
  ["\\"] = "\\textbackslash{}", ["{"] = "\\{", ["}"] = "\\}", ["~"] = "\\textasciitilde{}", ["^"] = "\\^{}",
  ["$"] = "\\$", ["&"] = "\\&", ["#"] = "\\#", ["_"] = "\\_", ["%"] = "\\%", ["-"] = "{-}",
}

local function Code(code)
  if not latex then return nil end
  local parts, run = {}, 0
  for _, point in utf8.codes(code.text) do
    local char = utf8.char(point)
    parts[#parts + 1] = TEX[char] or char
    run = char:match("%w") and run + 1 or 0
    if run == 0 or run == 8 then
      parts[#parts + 1], run = "\\allowbreak{}", 0
    end
  end
  return raw("\\texttt{" .. table.concat(parts) .. "}")
end

local function written(content)
  local is_block = pandoc.utils.type(content) == "Blocks"
  local whole = pandoc.Pandoc(is_block and content or { pandoc.Plain(content) }):walk({ Code = Code })
  local options = { wrap_text = "none", cite_method = latex and "natbib" or "citeproc" }
  return (pandoc.write(whole, format, options):gsub("%s+$", ""))
end

local function plain(blocks) return pandoc.utils.blocks_to_inlines(blocks) end

-- First pass: what would be lost.

local function lost(el)
  if el.text:match("^<!%-%-") then return {} end -- a comment is meant to go
  error("raw " .. el.format .. " would be lost, write \\< or \\\\: " .. el.text)
end

local function is_own(citation) return KINDS[citation.id:match("^(%a+):") or ""] end

local function check(cite)
  local own = 0
  for _, citation in ipairs(cite.citations) do
    if is_own(citation) then own = own + 1 end
    if #citation.prefix > 0 or #citation.suffix > 0 then
      error("words inside the bracket are lost, or read like the number: put them outside: " .. citation.id)
    end
  end
  if own > 0 and own < #cite.citations then
    error("a citation and a reference in one bracket: " .. cite.citations[1].id)
  end
end

local in_appendix = false
local function noted(header)
  in_appendix = in_appendix or header.classes:includes("appendix")
  if in_appendix then appended[header.identifier] = true end
end

-- Second pass: labelled equations, and spaces at which no line breaks: `95 %`, `p = 0.01`, `n = 8`.

local TIED = { ["%"] = true, ["="] = true, ["<"] = true }

local function tied(inlines)
  for i = 2, #inlines - 1 do
    local before, after = inlines[i - 1], inlines[i + 1]
    local held = (after.t == "Str" and TIED[after.text:sub(1, 1)]) or (before.t == "Str" and TIED[before.text] and before.text ~= "%")
    if inlines[i].t == "Space" and held then inlines[i] = pandoc.Str("\u{a0}") end
  end
end

local function equation(math, id)
  if not latex then return raw(written({ math }) .. " <" .. id .. ">") end
  return raw("\\begin{equation}\\label{" .. id .. "}" .. math.text:gsub("^%s+", ""):gsub("%s+$", "") .. "\\end{equation}")
end

local function Inlines(inlines)
  tied(inlines)
  for i = #inlines, 1, -1 do
    local id = inlines[i].t == "Str" and inlines[i].text:match("^{#(eq:[%w_-]+)}$")
    if id then
      local j = i - 1
      while inlines[j] and (inlines[j].t == "Space" or inlines[j].t == "SoftBreak") do j = j - 1 end
      if not inlines[j] or inlines[j].t ~= "Math" then error("label without an equation: " .. id) end
      local labelled = equation(inlines[j], id)
      for _ = j, i do inlines:remove(j) end
      inlines:insert(j, labelled)
    end
  end
  return inlines
end

-- Third pass: references, tables, figures, headings.

local function reference(id)
  if not latex then return "@" .. id end -- Typst supplies "Figure 1"
  if id:match("^eq:") then return "Equation~\\eqref{" .. id .. "}" end
  return (appended[id] and "Appendix" or KINDS[id:match("^%a+")]) .. "~\\ref{" .. id .. "}"
end

local function Cite(cite)
  if not is_own(cite.citations[1]) then return nil end
  local parts = {}
  for i, citation in ipairs(cite.citations) do
    if i > 1 then parts[#parts + 1] = (i < #cite.citations) and ", " or " and " end
    parts[#parts + 1] = reference(citation.id)
  end
  return raw(table.concat(parts))
end

local placement = "!htbp" -- of figures and tables; in the appendix they stand where they are

local ALIGN = { AlignLeft = "left", AlignRight = "right", AlignCenter = "center", AlignDefault = "left" }

-- A row whose first cell begins with `\heading` is one cell over all columns.
local function heading(row)
  local first = row.cells[1].contents[1]
  local inlines = first and first.content
  if not inlines or not inlines[1] or inlines[1].t ~= "Code" or inlines[1].text ~= "\\heading" then return nil end
  return written({ pandoc.Emph(pandoc.Inlines({ table.unpack(inlines, 3) })) })
end

local function is_rule(row) return pandoc.utils.stringify(row.cells[1].contents) == "\\midrule" end

local function rows_of(tbl)
  local rows = {}
  for _, body in ipairs(tbl.bodies) do
    for _, row in ipairs(body.body) do rows[#rows + 1] = row end
  end
  return rows
end

local function cells_of(row)
  local found = {}
  for _, cell in ipairs(row.cells) do found[#found + 1] = written(plain(cell.contents)) end
  return found
end

local function typst_table(tbl, align)
  local function cells(row) return "  [" .. table.concat(cells_of(row), "], [") .. "]," end
  local lines = {}
  for _, row in ipairs(tbl.head.rows) do lines[#lines + 1] = "  table.header(" .. cells(row):gsub("^%s+", "") .. ")," end
  lines[#lines + 1] = "  table.hline(),"
  for _, row in ipairs(rows_of(tbl)) do
    local across = heading(row)
    lines[#lines + 1] = is_rule(row) and "  table.hline(),"
      or across and "  table.cell(colspan: " .. #align .. ", align: left)[" .. across .. "],"
      or cells(row)
  end
  local label = tbl.identifier ~= "" and " <" .. tbl.identifier .. ">" or ""
  return block("#figure(kind: table, caption: [" .. written(plain(tbl.caption.long)) .. "], table(\n"
    .. "  columns: " .. #align .. ", align: (" .. table.concat(align, ", ") .. "),\n"
    .. table.concat(lines, "\n") .. "\n))" .. label)
end

local LINE, NARROWEST, LONG = 94, 14, 45 -- characters of a line and of the narrowest first column; rows of a page

-- Widths of the columns in characters; a heading across the table has none.
local function widths(tbl, columns)
  local found = {}
  for i = 1, columns do found[i] = 0 end
  local function measure(row)
    for i, cell in ipairs(row.cells) do
      found[i] = math.max(found[i], utf8.len(pandoc.utils.stringify(cell.contents)) or 0)
    end
  end
  for _, row in ipairs(tbl.head.rows) do measure(row) end
  for _, row in ipairs(rows_of(tbl)) do
    if not is_rule(row) and not heading(row) then measure(row) end
  end
  return found
end

-- Columns as they come where they fit the line; else the first one, or of a table of text the last, is broken.
local function latex_columns(tbl, align, rows)
  local letters, total, sizes = {}, 0, widths(tbl, #align)
  for i, size in ipairs(sizes) do
    letters[i] = align[i]:sub(1, 1)
    total = total + size + 2
  end
  if total > (rows > LONG and LINE or 1.2 * LINE) then -- a little too wide is made smaller
    local broken = align[#align] == "left" and #align or 1
    local left = LINE - (total - sizes[broken])
    if left >= NARROWEST then
      letters[broken] = string.format(">{\\raggedright\\arraybackslash}p{%.3f\\linewidth}", left / LINE)
    end
  end
  return "@{}" .. table.concat(letters) .. "@{}"
end

local function latex_table(tbl, align)
  local function cells(row) return table.concat(cells_of(row), " & ") .. " \\\\" end
  local columns, lines = latex_columns(tbl, align, #rows_of(tbl)), {}
  local head = cells(tbl.head.rows[1])
  for _, row in ipairs(rows_of(tbl)) do
    local across = heading(row)
    lines[#lines + 1] = is_rule(row) and "\\midrule"
      or across and "\\multicolumn{" .. #align .. "}{@{}l@{}}{" .. across .. "} \\\\"
      or cells(row)
  end
  local caption = "\\caption{" .. written(plain(tbl.caption.long)) .. "}"
  if tbl.identifier ~= "" then caption = caption .. "\\label{" .. tbl.identifier .. "}" end
  local body = table.concat(lines, "\n")
  if #lines > LONG then
    return block("{\\tablesize\n\\begin{longtable}{" .. columns .. "}\n" .. caption .. "\\\\\n\\toprule\n" .. head
      .. "\n\\midrule\n\\endfirsthead\n\\toprule\n" .. head .. "\n\\midrule\n\\endhead\n\\bottomrule\n\\endfoot\n"
      .. body .. "\n\\end{longtable}}")
  end
  return block("\\begin{table}[" .. placement .. "]\n\\centering\\tablesize\n" .. caption .. "\n\\fitted{\\begin{tabular}{" .. columns
    .. "}\n\\toprule\n" .. head .. "\n\\midrule\n" .. body .. "\n\\bottomrule\n\\end{tabular}}\n\\end{table}")
end

local function Table(tbl)
  local align = {}
  for i, spec in ipairs(tbl.colspecs) do align[i] = ALIGN[tostring(spec[1])] or "left" end
  return (latex and latex_table or typst_table)(tbl, align)
end

-- In the bundle, figures lie in figures/EXPERIMENT/NAME.pdf.
local function Figure(figure)
  if not latex then return nil end
  local source = figure.content[1].content[1].src
  return block("\\begin{figure}[" .. placement .. "]\n\\centering\n\\includegraphics[width=\\linewidth,height=.8\\textheight,"
    .. "keepaspectratio]{" .. (source:match("(figures/.*)") or source) .. "}\n\\caption{"
    .. written(plain(figure.caption.long)) .. "}\\label{" .. figure.identifier .. "}\n\\end{figure}")
end

-- Figures and tables stay with their section: none floats past a heading of the first two levels, but for what opens a
-- section and may share a page with its first part.
local above = 0 -- level of the heading before

local function Header(header)
  local found = {}
  local holds = header.level == 1 or (header.level == 2 and above ~= 1)
  above = header.level
  if holds then found[1] = block(latex and "\\flushfloats" or "#place.flush()") end
  if latex and header.classes:includes("unnumbered") then return found end -- natbib prints its own
  if header.classes:includes("appendix") then
    header.classes = header.classes:filter(function(class) return class ~= "appendix" end)
    found[#found + 1] = block(latex and "\\appendix" or "#show: appendix")
    placement = "H"
  end
  found[#found + 1] = header
  return found
end

local function Div(div)
  if div.identifier ~= "refs" then return nil end
  if latex then return block("\\bibliography{refs}") end
  return block('#bibliography("/paper/refs.bib", title: none, style: "association-for-computing-machinery")')
end

return {
  { RawInline = lost, RawBlock = lost, Cite = check, Header = noted },
  { Inlines = Inlines },
  { Cite = Cite },
  { Table = Table, Figure = Figure, Header = Header, Div = Div },
  { Code = Code },
}
