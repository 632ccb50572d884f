//! `report.html`: one file that needs no other.

use super::{chart::escape, plots::Plot, words};
use crate::summary::{Results, Run};

const STYLE: &str = include_str!("report.css");

/// The page.
pub(super) fn page(results: &[Results], plots: &[Plot]) -> String {
    let mut body = String::from("<h1>CloudPose load test</h1>\n");
    for of in results {
        body += &about(of);
    }
    if results.iter().any(|of| !of.searches.is_empty()) {
        body += "<h2>The largest load that holds</h2>\n";
        body += &table(&words::searches(results));
    }
    for of in results {
        for run in &of.runs {
            body += &one_run(of, run);
        }
    }
    if !plots.is_empty() {
        body += "<h2>Plots</h2>\n<div class=\"plots\">\n";
        for plot in plots {
            body += &format!("<figure>{}</figure>\n", plot.svg);
        }
        body += "</div>\n";
    }
    for of in results {
        for search in &of.searches {
            let replicas = search.replicas.map_or(String::new(), |n| format!(", replicas: {n}"));
            body += &format!("<h2>Steps: {}{replicas}</h2>\n<pre>", escape(&of.name));
            for step in &search.steps {
                body += &escape(&words::step(step));
                body += "\n";
            }
            body += "</pre>\n";
        }
    }
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>CloudPose load test</title>\n<style>\n{STYLE}</style>\n{body}</html>\n"
    )
}

fn about(of: &Results) -> String {
    let objective = of
        .objective
        .map_or(String::new(), |objective| format!("<br>Objective: {}", escape(&objective.to_string())));
    format!(
        "<p class=\"about\"><b>{}</b> at {} ({}), {}<br>{}{objective}</p>\n",
        escape(&of.name),
        escape(&of.url),
        escape(&of.location),
        escape(&of.began),
        escape(&of.workload)
    )
}

fn one_run(of: &Results, run: &Run) -> String {
    let title = format!("{}: {}, {:.0} s", of.name, run.load, run.seconds);
    let remarks: String = words::remarks(run)
        .iter()
        .map(|line| {
            let class = if line.starts_with("VOID") { " class=\"void\"" } else { "" };
            format!("<p{class}>{}</p>\n", escape(line))
        })
        .collect();
    format!("<h2>{}</h2>\n{}{remarks}", escape(&title), table(&words::calls(run)))
}

fn table(table: &words::Table) -> String {
    let heads: String = table.heads.iter().map(|head| format!("<th>{}</th>", escape(head))).collect();
    let row = |row: &Vec<String>| {
        let cells: String = row.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let rows: String = table.rows.iter().map(row).collect();
    format!(
        "<div class=\"wide\"><table><thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n"
    )
}
