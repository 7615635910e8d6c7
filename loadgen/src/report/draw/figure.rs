//! A plot with its heading, its legend and the numbers behind it.

use super::escape;

/// Rows of cells, of which the first names the row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    /// What it holds, for those who hear it.
    pub caption: String,
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// As HTML; cells are text.
    pub(crate) fn html(&self) -> String {
        let cell = |at: usize, text: &String| {
            let text = escape(text).replace(' ', "\u{a0}");
            if at == 0 { format!("<th scope=\"row\">{text}</th>") } else { format!("<td class=\"n\">{text}</td>") }
        };
        let row = |row: &Vec<String>| {
            let cells: String = row.iter().enumerate().map(|(at, text)| cell(at, text)).collect();
            format!("<tr>{cells}</tr>")
        };
        let head: String = self.head.iter().map(|name| format!("<th scope=\"col\">{}</th>", escape(name))).collect();
        let head = if head.is_empty() { String::new() } else { format!("<thead><tr>{head}</tr></thead>") };
        let caption = escape(&self.caption);
        format!(
            "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{caption}\"><table class=\"numbers\">\
             <caption class=\"hidden\">{caption}</caption>{head}<tbody>{}</tbody></table></div>",
            self.rows.iter().map(row).collect::<String>()
        )
    }
}

/// A section of a page with one plot or several.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figure {
    /// Its name in the page.
    pub id: &'static str,
    pub title: String,
    /// A sentence that says how to read it, in HTML.
    pub intro: String,
    /// Class and name of what is drawn.
    pub legend: Vec<(&'static str, String)>,
    /// SVG.
    pub drawing: String,
    /// What is to be said about it, in HTML.
    pub note: String,
    /// The numbers behind it.
    pub table: Table,
    /// The table is part of what is read, not something to look up.
    pub open: bool,
}

impl Figure {
    /// As HTML.
    pub(crate) fn html(&self) -> String {
        let legend: String = self
            .legend
            .iter()
            .map(|(class, name)| format!("<li><i class=\"{class}\"></i>{}</li>", escape(name)))
            .collect();
        let legend = if legend.is_empty() { legend } else { format!("<ul class=\"legend\">{legend}</ul>") };
        let intro = if self.intro.is_empty() { String::new() } else { format!("<p>{}</p>", self.intro) };
        let note = if self.note.is_empty() { String::new() } else { format!("<p class=\"note\">{}</p>", self.note) };
        let table = match (self.table.rows.is_empty(), self.open) {
            (true, _) => String::new(),
            (false, true) => self.table.html(),
            (false, false) => {
                format!("<details class=\"behind\"><summary>The numbers</summary>{}</details>", self.table.html())
            }
        };
        let id = self.id;
        format!(
            "<section id=\"{id}\" aria-labelledby=\"{id}-title\"><h2 id=\"{id}-title\">{}</h2>{intro}{legend}{}{note}{table}\
             </section>\n",
            escape(&self.title),
            self.drawing
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_carries_its_numbers_and_escapes_what_others_wrote() {
        let table = Table {
            caption: "c".into(),
            head: vec!["name".into(), "value".into()],
            rows: vec![vec!["<b>".into(), "1 2".into()]],
        };
        let html = Figure { id: "x", title: "A & B".into(), table, ..Figure::default() }.html();
        assert!(html.contains("A &amp; B") && html.contains("&lt;b&gt;") && html.contains("<details"), "{html}");
        assert!(html.contains("1\u{a0}2") && html.contains("aria-labelledby=\"x-title\""), "{html}");
    }
}
