//! What every page has: what was run, the verdict and why, and the report itself.

pub(crate) use super::draw::escape;
use crate::host::Environment;
use crate::verdict::Verdict;

const STYLE: &str = include_str!("page/page.css");

/// A page that needs nothing else, neither network nor scripts. The answer stands first.
pub(crate) struct Sheet<'a> {
    /// What was run.
    pub(crate) name: &'a str,
    pub(crate) verdict: Verdict,
    /// Why the verdict is what it is.
    pub(crate) reasons: &'a [String],
    /// What it came to, in a sentence of HTML.
    pub(crate) answer: String,
    /// The rest, in HTML.
    pub(crate) sections: String,
    pub(crate) environment: &'a Environment,
    /// The report, which is shown and stands there for programs; `None` for what has another place.
    pub(crate) json: Option<&'a str>,
}

impl Sheet<'_> {
    /// The page.
    pub(crate) fn html(&self) -> String {
        let Self { verdict, answer, sections, environment, .. } = self;
        let (class, word) = word(*verdict);
        let reasons: String = self.reasons.iter().map(|reason| format!("<li>{}</li>", escape(reason))).collect();
        let debug = match environment.build.as_str() {
            "debug" => "<li>This is a debug build: its numbers say nothing about speed.</li>",
            _ => "",
        };
        let (shown, embedded) = self.json.map_or(Default::default(), report);
        let body = format!(
            "<div class=\"verdict {class}\" id=\"answer\"><strong>{word}</strong><p>{answer}</p>\
             <ul>{reasons}{debug}</ul></div>\n{sections}{shown}"
        );
        let under = format!(
            "{} on {}, {} cores",
            environment.started.replace('T', " ").replace('Z', " UTC"),
            escape(environment.cpu.as_deref().unwrap_or("unknown processor")),
            environment.cores,
        );
        frame(&format!("roost-load {}", self.name), word, &under, &body, &embedded)
    }
}

/// A whole document: a heading, a line below it, and what stands in it. `end` follows the body's text.
pub(crate) fn frame(heading: &str, word: &str, under: &str, body: &str, end: &str) -> String {
    let heading = escape(heading);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n\
         <title>{heading}: {word}</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <main>\n<header><h1>{heading}</h1><p>{under}</p></header>\n{body}</main>\n{end}</body>\n</html>\n"
    )
}

/// The report for people, and for programs.
fn report(json: &str) -> (String, String) {
    let shown = format!(
        "<section class=\"screen\"><details><summary>report.json</summary><pre>{}</pre></details></section>\n",
        escape(json)
    );
    // A string of the report must not end the element it stands in.
    let embedded = json.replace("</", "<\\/");
    (shown, format!("<script type=\"application/json\" id=\"report\">{embedded}</script>\n"))
}

/// Where and how it was run, and what is to be said about that.
pub(crate) fn place(environment: &Environment, note: &str) -> String {
    format!(
        "<section><h2>Where</h2><p>{}<br>commit {}, {} build, kernel {}</p><p>{}</p></section>\n",
        escape(&environment.command),
        environment.commit.as_deref().unwrap_or("unknown"),
        environment.build,
        escape(environment.kernel.as_deref().unwrap_or("unknown")),
        escape(note),
    )
}

/// The class and the words of a verdict.
pub(crate) const fn word(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Pass => ("well", "✓ Passed"),
        Verdict::Unreachable => ("bad", "✗ Not reachable"),
        Verdict::Broken => ("bad", "✗ Broken promises"),
        Verdict::Generator => ("warn", "▲ Invalid: the generator was the limit"),
        Verdict::Threshold => ("bad", "✗ A threshold failed"),
        Verdict::Interrupted => ("warn", "▲ Stopped early"),
    }
}
