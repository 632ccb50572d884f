//! The comparison as one HTML file that needs no other.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cloudpose_accuracy::compare::Compared;
use cloudpose_loadgen::chart::{Chart, Line, Scale, escape};

use super::{
    clips::Clip,
    pictures::Twice,
    results::Results,
    summary::{PARTS, Summary},
    words::{self, Row},
};

const STYLE: &str = include_str!("page.css");
/// Points of a line, at most: of more frames than that several are one.
const POINTS: usize = 300;

/// The page. Writing to a string cannot fail, here and below.
pub(super) fn page(results: &[Results; 2], clips: &[Clip], total: &Summary, worst: &[Twice<'_>]) -> String {
    let names = words::names(results).map(|name| escape(&name));
    let [a, b] = &names;
    let mut body = format!("<h1>{a} and {b}</h1>\n");
    let [file_a, file_b] = results.each_ref().map(|results| escape(&results.name));
    writeln!(body, "<p class=\"about\">A is {file_a}, B is {file_b}. Neither is the truth.</p>").ok();
    for sentence in words::verdict(results, total) {
        writeln!(body, "<p class=\"verdict\">{}</p>", escape(&sentence)).ok();
    }
    body += &table(&names, &words::table(total));
    body += &plots(clips, total);
    if !worst.is_empty() {
        body += "<h2>Where they differ most</h2>\n<p class=\"about\">Corners mark who is in one of the two only. A picture that \
                 is clicked fills the window.</p>\n";
        for twice in worst {
            body += &side_by_side(&names, twice, clips.len() > 1);
        }
    }
    if clips.len() > 1 {
        for clip in clips {
            writeln!(body, "<h2>{}</h2>", escape(&clip.name)).ok();
            body += &table(&names, &words::table(&Summary::of(&[clip])));
        }
    }
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{a} and {b}</title>\n<style>\n{STYLE}</style>\n{body}</html>\n"
    )
}

fn table([a, b]: &[String; 2], rows: &[Row]) -> String {
    let row = |[name, a, b]: &Row| match b.as_str() {
        "" => format!("<tr><td>{name}</td><td colspan=\"2\" class=\"both\">{a}</td></tr>\n"),
        b => format!("<tr><td>{name}</td><td>{a}</td><td>{b}</td></tr>\n"),
    };
    let rows: String = rows.iter().map(row).collect();
    format!(
        "<div class=\"wide\"><table><thead><tr><th></th><th>{a}</th><th>{b}</th></tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n"
    )
}

fn plots(clips: &[Clip], total: &Summary) -> String {
    let mut plots = vec![histogram(total)];
    for clip in clips.iter().filter(|clip| clip.is_video() && clip.comparison.frames.len() > 1) {
        let name = if clips.len() > 1 { format!("{}: ", clip.name) } else { String::new() };
        plots.extend(over_time(&name, clip));
    }
    let figures: String = plots.iter().map(|svg| format!("<figure>{svg}</figure>\n")).collect();
    format!("<h2>Plots</h2>\n<div class=\"plots\">\n{figures}</div>\n")
}

/// How alike the persons are that both find, as columns.
fn histogram(total: &Summary) -> String {
    let parts = total.parts();
    let most = parts.iter().copied().max().unwrap_or_default().max(1) as f64;
    let (left, bottom, height, step) = (64.0, 262.0, 206.0, 62.0);
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 320\" role=\"img\" aria-label=\"OKS of persons that both find\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#333\"><rect width=\"720\" height=\"320\" fill=\"#fff\"/>\
         <text x=\"64\" y=\"20\" font-size=\"14\" font-weight=\"600\" fill=\"#111\">How alike the persons are that both find</text>",
    );
    for (part, count) in parts.into_iter().enumerate() {
        let x = left + step * part as f64;
        let tall = height * count as f64 / most;
        write!(
            svg,
            "<rect x=\"{:.0}\" y=\"{:.1}\" width=\"{:.0}\" height=\"{tall:.1}\" fill=\"#0072b2\"/>\
             <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"middle\">{count}</text>\
             <text x=\"{x:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{:.2}</text>",
            x + 3.0,
            bottom - tall,
            step - 6.0,
            x + step / 2.0,
            bottom - tall - 5.0,
            bottom + 16.0,
            0.5 + 0.05 * part as f64
        )
        .ok();
    }
    let right = left + step * PARTS as f64;
    writeln!(
        svg,
        "<line x1=\"{left}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\" stroke=\"#888\"/>\
         <text x=\"{right}\" y=\"{:.0}\" text-anchor=\"middle\">1.00</text>\
         <text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">OKS</text></svg>",
        bottom + 16.0,
        f64::midpoint(left, right),
        bottom + 36.0
    )
    .ok();
    svg
}

fn over_time(name: &str, clip: &Clip) -> Vec<String> {
    let frames = &clip.comparison.frames;
    let line = |name: &str, of: &dyn Fn(&[Compared]) -> Option<f64>| {
        let chunks = frames.chunks(frames.len().div_ceil(POINTS));
        let points = chunks.filter_map(|chunk| Some((chunk.first()?.number as f64, of(chunk)?))).collect();
        Line { name: name.into(), points }
    };
    let mean = |of: fn(&Compared) -> usize| {
        move |chunk: &[Compared]| Some(chunk.iter().map(of).sum::<usize>() as f64 / chunk.len() as f64)
    };
    let least = |chunk: &[Compared]| chunk.iter().filter_map(Compared::least_oks).min_by(f64::total_cmp);
    let chart = |title: &str, y: &str, lines: Vec<Line>| {
        Chart { title: &format!("{name}{title}"), x: "frame", y, scale: Scale::Linear, lines, mark: None }
            .svg()
    };
    let persons = [line("A", &mean(|frame| frame.persons[0])), line("B", &mean(|frame| frame.persons[1]))];
    let oks = line("of the person who is least alike", &least);
    [chart("Persons by frame", "persons", persons.into()), chart("OKS by frame", "OKS", vec![oks])]
        .into_iter()
        .flatten()
        .collect()
}

fn side_by_side(names: &[String; 2], twice: &Twice<'_>, says_clip: bool) -> String {
    let Twice { clip, number, drawn } = twice;
    let of = if says_clip { format!("{}, ", clip.name) } else { String::new() };
    let label = escape(&format!("{of}{}", clip.label(*number)));
    let caption = escape(&words::frame(clip, *number));
    let pictures = drawn.as_ref().map_or(String::new(), |drawn| {
        let picture = |(jpeg, name): (&bytes::Bytes, &String)| {
            let data = STANDARD.encode(jpeg);
            format!("<img tabindex=\"0\" alt=\"{label} as {name} sees it\" src=\"data:image/jpeg;base64,{data}\">\n")
        };
        let heads: String = names.iter().map(|name| format!("<span>{name}</span>\n")).collect();
        let pictures: String = drawn.iter().zip(names).map(picture).collect();
        format!("<div>\n{heads}{pictures}</div>")
    });
    format!("<figure class=\"twice\"><p><b>{label}</b>: {caption}</p>{pictures}</figure>\n")
}
