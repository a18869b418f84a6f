% A one-column preprint that pdflatex makes with what Debian's texlive-latex-recommended has, and arXiv.
\pdfinfoomitdate=1
\pdftrailerid{}
\pdfsuppressptexinfo=-1
\documentclass[11pt,a4paper]{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage{lmodern,microtype,amsmath,amssymb,graphicx,booktabs,longtable,array,xcolor,float,fancyhdr}
\usepackage[textwidth=6.4in,vmargin=2.7cm]{geometry} % the text is as wide as figures are made (analysis/style.py)
\usepackage[numbers,sort&compress]{natbib}
\usepackage[colorlinks,allcolors=ink,pdftitle={$title-plain$}]{hyperref}
\usepackage[font=small,labelfont=bf,skip=6pt,justification=justified,singlelinecheck=false]{caption}
\definecolor{ink}{HTML}{1f4e8c}
\definecolor{mark}{HTML}{b03030}
$characters$
\newcommand{\tablesize}{\footnotesize\setlength{\tabcolsep}{4.5pt}}
\providecommand{\tightlist}{\setlength{\itemsep}{2pt}\setlength{\parskip}{0pt}}
\makeatletter
\newsavebox\tablebox
% A table that is wider than the line is made smaller.
\newcommand{\fitted}[1]{\sbox\tablebox{#1}%
  \ifdim\wd\tablebox>\linewidth\resizebox{\linewidth}{!}{\usebox\tablebox}\else\usebox\tablebox\fi}
% Headings as they are, but never hyphenated.
\renewcommand\section{\@startsection{section}{1}{\z@}{-3.5ex \@plus -1ex \@minus -.2ex}{2.3ex \@plus .2ex}%
  {\normalfont\Large\bfseries\raggedright}}
\renewcommand\subsection{\@startsection{subsection}{2}{\z@}{-3.25ex \@plus -1ex \@minus -.2ex}{1.5ex \@plus .2ex}%
  {\normalfont\large\bfseries\raggedright}}
% Figures and tables that wait are printed before the text goes on.
\newcommand{\flushfloats}{\par\begingroup\let\@elt\relax
  \edef\waiting{\@botlist\@deferlist\@dbldeferlist}%
  \ifx\waiting\@empty\endgroup\else\endgroup\clearpage\fi}
\makeatother
\renewcommand{\topfraction}{.9}
\renewcommand{\bottomfraction}{.7}
\renewcommand{\textfraction}{.08}
\renewcommand{\floatpagefraction}{.75}
\setlength{\emergencystretch}{4em}
\setlength{\headheight}{14pt}
\raggedbottom
\pagestyle{fancy}
\fancyhf{}
\renewcommand{\headrulewidth}{0pt}
\fancyfoot[C]{\thepage}
\fancypagestyle{plain}{}
$if(marks)$
\fancyhead[R]{\footnotesize\itshape\color{mark}$for(marks)$$marks$$sep$ · $endfor$}
\AddToHook{shipout/background}{\put(.5\paperwidth,-.5\paperheight){\makebox(0,0){\rotatebox{52}{%
  \color{mark!7}\fontsize{58}{60}\selectfont\bfseries $watermark$}}}}
$endif$
\bibliographystyle{unsrtnat}
\title{\vspace{-2em}\Large\bfseries $title$\\[.4em]\normalsize\mdseries $subtitle$}
\author{\small $byline$}
\date{}
\begin{document}
\maketitle
$if(marks)$
\begin{center}\color{mark}\bfseries{}$for(marks)$$marks$$sep$ · $endfor$\end{center}
$endif$
\begin{abstract}
\noindent $abstract$
\end{abstract}

$body$

\end{document}
