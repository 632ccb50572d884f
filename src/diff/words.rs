//! The verdict in plain words, and the table.

use super::{
    clips::Clip,
    results::Results,
    summary::{Summary, worst},
};
use crate::plain::plain;

/// Differences of steadiness that are worth a word: a fifth more or less.
const STEADIER: f64 = 0.8;

/// A row: what it is of, and what is said of the first result and of the second.
pub(super) type Row = [String; 3];

/// What the two are called: A and B, with what tells them apart.
pub(super) fn names(results: &[Results; 2]) -> [String; 2] {
    let [a, b] = results;
    let told_by_model = a.models() != b.models();
    let name = |letter: &str, results: &Results| {
        let what = if told_by_model { results.models() } else { results.name.clone() };
        format!("{letter} ({})", plain(&what))
    };
    [name("A", a), name("B", b)]
}

/// What changed, a sentence each.
pub(super) fn verdict(results: &[Results; 2], total: &Summary) -> Vec<String> {
    let [a, b] = names(results);
    let [lost, found] = total.lost_and_found();
    if total.sides.iter().all(|side| side.persons == 0) {
        return vec![format!("Neither {a} nor {b} finds anybody.")];
    }
    let mut said = Vec::new();
    said.push(match (lost, found) {
        (0, 0) => format!("Both find the same {} persons.", total.both),
        (0, _) => format!("{b} finds everybody whom {a} finds, and {found} more."),
        (_, 0) => format!(
            "{b} misses {lost} of the {} persons that {a} finds, and finds nobody else.",
            total.sides[0].persons
        ),
        _ => format!(
            "{b} finds {found} persons that {a} has not, and misses {lost} of the {} that it has.",
            total.sides[0].persons
        ),
    });
    if let Some(median) = total.oks.median() {
        let how = match median {
            1.0 if total.oks.quantile(0.0) == Some(1.0) => "exactly in the same place",
            m if m >= 0.95 => "in the same place",
            m if m >= 0.85 => "in nearly the same place",
            m if m >= 0.7 => "some way apart",
            _ => "far apart",
        };
        said.push(format!("Where both find somebody, the joints are {how} (OKS {median:.3}, median)."));
    }
    if let [Some(of_a), Some(of_b)] = total.sides.each_ref().map(|side| side.jitter.mean()) {
        let than = |steady: &str, other: &str, [less, more]: [f64; 2]| {
            format!(
                "{steady} is steadier: joints tremble by {} of the person's size, those of {other} by {}.",
                percent(less),
                percent(more)
            )
        };
        said.push(if of_b < STEADIER * of_a {
            than(&b, &a, [of_b, of_a])
        } else if of_a < STEADIER * of_b {
            than(&a, &b, [of_a, of_b])
        } else {
            format!(
                "Joints are as steady in both ({} and {} of the person's size).",
                percent(of_a),
                percent(of_b)
            )
        });
    }
    let [of_a, of_b] = total.sides.each_ref().map(|side| side.switches);
    if of_a + of_b > 0 {
        said.push(format!(
            "A person's id changed while the other kept it {of_a} times in {a}, {of_b} times in {b}."
        ));
    }
    said
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// The numbers of a clip, or of all.
pub(super) fn table(summary: &Summary) -> Vec<Row> {
    let of = |number: Option<f64>, digits: usize| {
        number.map_or("–".into(), |number| format!("{number:.digits$}"))
    };
    let share = |number: Option<f64>| number.map_or("–".into(), percent);
    let both = |name: &str, say: &dyn Fn(usize) -> String| [name.to_owned(), say(0), say(1)];
    let once = |name: &str, value: String| [name.to_owned(), value, String::new()];
    let sides = &summary.sides;
    let alone = summary.lost_and_found();
    let mut rows = vec![once("frames in both", summary.frames.to_string())];
    if summary.only != [0, 0] {
        rows.push(both("frames in one only", &|i| summary.only[i].to_string()));
    }
    rows.extend([
        both("persons, frame by frame", &|i| sides[i].persons.to_string()),
        once("persons that both find", summary.both.to_string()),
        both("persons that only this one finds", &|i| alone[i].to_string()),
        once("OKS of those that both find, median", of(summary.oks.median(), 3)),
        once("OKS, mean", of(summary.oks.mean(), 3)),
        once("OKS, 5 of 100 are below", of(summary.oks.quantile(0.05), 3)),
        both("joints seen of a person", &|i| of(sides[i].joints, 1)),
    ]);
    if sides.iter().any(|side| side.ids > 0) {
        rows.extend([
            both("ids", &|i| sides[i].ids.to_string()),
            both("ids that changed while the other kept them", &|i| sides[i].switches.to_string()),
            both("jitter of joints, median", &|i| share(sides[i].jitter.median())),
            both("jitter of joints, mean", &|i| share(sides[i].jitter.mean())),
        ]);
    }
    rows
}

/// In what one frame differs.
pub(super) fn frame(clip: &Clip, number: u64) -> String {
    let Some(frame) = clip.comparison.frames.iter().find(|frame| frame.number == number) else {
        return String::new();
    };
    let [lost, found] = frame.lost_and_found();
    let mut said = Vec::new();
    if lost > 0 {
        said.push(format!("{lost} only in A"));
    }
    if found > 0 {
        said.push(format!("{found} only in B"));
    }
    said.extend(frame.least_oks().map(|oks| format!("least OKS {oks:.2}")));
    said.join(", ")
}

/// Everything, for a terminal.
pub(super) fn text(results: &[Results; 2], clips: &[Clip], total: &Summary) -> String {
    let mut text = verdict(results, total).join("\n");
    let mut add = |title: &str, summary: &Summary| {
        text += &format!("\n\n{title:45} {:>10} {:>10}\n", "A", "B");
        for [name, a, b] in table(summary) {
            text += format!("{name:45} {a:>10} {b:>10}").trim_end();
            text.push('\n');
        }
        text.truncate(text.trim_end().len());
    };
    add("", total);
    if clips.len() > 1 {
        clips.iter().for_each(|clip| add(&plain(&clip.name), &Summary::of(&[clip])));
    }
    text += "\n";
    for (index, (clip, number)) in worst(clips).into_iter().enumerate() {
        let title = if index == 0 { "\nThey differ most in\n" } else { "" };
        let name = if clips.len() > 1 { format!("{}, ", plain(&clip.name)) } else { String::new() };
        text += &format!("{title}  {name}{}: {}\n", plain(&clip.label(number)), frame(clip, number));
    }
    text
}
