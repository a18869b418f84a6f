-- Markdown as pandoc reads it -> Typst with numbered cross-references.
--   [@fig:x] [@tbl:x] [@sec:x] [@eq:x]   references; other keys are citations, which Typst resolves
--   $$ … $$ {#eq:x}                      a numbered equation
--   a table row of `\midrule`            a rule across the table
--   a table row of `\heading` and words  a heading across the table
--   # Title {.appendix}                  from here on, headings are lettered

local KINDS = { fig = true, tbl = true, sec = true, eq = true }

local function raw(text) return pandoc.RawInline("typst", text) end

local function typst(blocks_or_inlines)
  local is_block = pandoc.utils.type(blocks_or_inlines) == "Blocks"
  local blocks = is_block and blocks_or_inlines or { pandoc.Plain(blocks_or_inlines) }
  local text = pandoc.write(pandoc.Pandoc(blocks), "typst", { wrap_text = "none" })
  return (text:gsub("%s+$", ""))
end

-- References to figures and the like are told from citations by their prefix.
local function Cite(cite)
  local own, others = 0, 0
  for _, citation in ipairs(cite.citations) do
    if KINDS[citation.id:match("^(%a+):") or ""] then own = own + 1 else others = others + 1 end
  end
  if own == 0 then return nil end
  if others > 0 then error("a citation and a reference in one bracket: " .. cite.citations[1].id) end
  local parts = {}
  for i, citation in ipairs(cite.citations) do
    if #citation.prefix > 0 or #citation.suffix > 0 then
      error("words inside the bracket of a reference would be lost: " .. citation.id)
    end
    if i > 1 then parts[#parts + 1] = (i < #cite.citations) and ", " or " and " end
    parts[#parts + 1] = "@" .. citation.id
  end
  return raw(table.concat(parts))
end

local function Inlines(inlines)
  for i = #inlines, 1, -1 do
    local id = inlines[i].t == "Str" and inlines[i].text:match("^{#(eq:[%w_-]+)}$")
    if id then
      local j = i - 1
      while inlines[j] and (inlines[j].t == "Space" or inlines[j].t == "SoftBreak") do j = j - 1 end
      if not inlines[j] or inlines[j].t ~= "Math" then error("label without an equation: " .. id) end
      local labelled = raw(typst({ inlines[j] }) .. " <" .. id .. ">")
      for _ = j, i do inlines:remove(j) end
      inlines:insert(j, labelled)
    end
  end
  return inlines
end

local ALIGN = { AlignLeft = "left", AlignRight = "right", AlignCenter = "center", AlignDefault = "left" }

local function cells(row)
  local found = {}
  for _, cell in ipairs(row.cells) do
    found[#found + 1] = "[" .. typst(cell.contents) .. "]"
  end
  return "  " .. table.concat(found, ", ") .. ","
end

-- A row whose first cell begins with `\heading` is one cell over all columns.
local function heading(row, columns)
  local first = row.cells[1].contents[1]
  local inlines = first and first.content
  if not inlines or not inlines[1] or inlines[1].t ~= "Code" or inlines[1].text ~= "\\heading" then return nil end
  local text = pandoc.Emph(pandoc.Inlines({ table.unpack(inlines, 3) }))
  return "  table.cell(colspan: " .. columns .. ", align: left)[" .. typst(pandoc.Inlines({ text })) .. "],"
end

local function is_rule(row)
  return pandoc.utils.stringify(row.cells[1].contents) == "\\midrule"
end

local function Table(tbl)
  local align, lines = {}, {}
  for i, spec in ipairs(tbl.colspecs) do align[i] = ALIGN[tostring(spec[1])] or "left" end
  for _, row in ipairs(tbl.head.rows) do lines[#lines + 1] = "  table.header(" .. cells(row):gsub("^%s+", "") .. ")," end
  lines[#lines + 1] = "  table.hline(),"
  for _, body in ipairs(tbl.bodies) do
    for _, row in ipairs(body.body) do
      lines[#lines + 1] = is_rule(row) and "  table.hline()," or heading(row, #align) or cells(row)
    end
  end
  local label = tbl.identifier ~= "" and " <" .. tbl.identifier .. ">" or ""
  return pandoc.RawBlock("typst", "#figure(kind: table, caption: [" .. typst(tbl.caption.long) .. "], table(\n"
    .. "  columns: " .. #align .. ", align: (" .. table.concat(align, ", ") .. "),\n"
    .. table.concat(lines, "\n") .. "\n))" .. label)
end

local function Header(header)
  if header.classes:includes("appendix") then
    header.classes = header.classes:filter(function(class) return class ~= "appendix" end)
    return { pandoc.RawBlock("typst", "#show: appendix"), header }
  end
end

local function Div(div)
  if div.identifier == "refs" then
    return pandoc.RawBlock("typst", '#bibliography("/paper/refs.bib", title: none, style: "association-for-computing-machinery")')
  end
end

return { { Inlines = Inlines }, { Cite = Cite }, { Table = Table, Header = Header, Div = Div } }
