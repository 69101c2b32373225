//! Reports as one HTML file each, nothing loaded from elsewhere.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::run::Setting;

const STYLE: &str = "
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; } th { font-weight: 600; }
.text td, .text th { text-align: left; border-bottom: 1px solid #ddd; vertical-align: top; overflow-wrap: anywhere; }
.map td { min-width: 3.2rem; border: 1px solid #fff; }
.map .dominated { opacity: .75; } .map .best { font-weight: 800; }
.map td.lth { border-left: 4px solid #d0201f; border-right: 4px solid #d0201f; }
.map td.sgd { border-top: 4px solid #1f5fd0; border-bottom: 4px solid #1f5fd0; }
small { font-size: .75em; opacity: .85; } figure { margin: 2rem 0; } figure svg { max-width: 100%; height: auto; }
figcaption { color: #555; } .true, .false, th { white-space: nowrap; } .true { color: #0a7a2f; } .false { color: #b3261e; } .wide { overflow-x: auto; }
";

/// A page of this body.
pub(crate) fn page(body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "slth: pretrain, then prune" }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    };
    page.into_string()
}

/// Options and their values.
pub(crate) fn options(setting: &Setting) -> Markup {
    html! {
        table.text {
            @for (key, value) in setting {
                tr { td { (key) } td { (value.to_string().trim_matches('"')) } }
            }
        }
    }
}
