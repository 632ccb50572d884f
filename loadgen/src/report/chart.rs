//! A line chart as SVG text. Light on its own ground, so that it can stand on any page.

use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 76.0;
/// Okabe and Ito's colours, which people who see fewer colours tell apart too.
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// How values become heights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// From 0.
    Linear,
    /// Logarithmic: for latencies, which grow a hundredfold at the knee.
    Log,
}

/// One line with its name.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// As the legend says it.
    pub name: String,
    /// In the order in which they are joined.
    pub points: Vec<(f64, f64)>,
}

/// A chart.
#[derive(Debug, Clone)]
pub struct Chart<'a> {
    /// Above it.
    pub title: &'a str,
    /// What is counted to the right, from 0.
    pub x: &'a str,
    /// What is counted upwards.
    pub y: &'a str,
    /// How it is counted upwards.
    pub scale: Scale,
    /// What is drawn.
    pub lines: Vec<Line>,
    /// A height that matters, with its name.
    pub mark: Option<(f64, String)>,
}

/// A number on an axis.
fn number(value: f64) -> String {
    if value >= 1e4 {
        format!("{}k", value / 1e3)
    } else {
        // Without what binary fractions leave behind.
        format!("{}", (value * 1e6).round() / 1e6)
    }
}

/// Round values that part 0 to `top` into about five, `least` apart or more.
fn ticks(top: f64, least: f64) -> Vec<f64> {
    let rough = (top / 5.0).max(least);
    let magnitude = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * magnitude).find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    (0..=(top / step).ceil() as u32).map(|i| f64::from(i) * step).collect()
}

/// Text as it may stand in SVG and HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl Chart<'_> {
    /// The picture. None if there is nothing to draw.
    pub fn svg(&self) -> Option<String> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let (right, high) = points().fold((0.0_f64, 0.0_f64), |(x, y), p| (x.max(p.0), y.max(p.1)));
        points().next()?;
        let high = self.mark.as_ref().map_or(high, |(mark, _)| high.max(*mark)).max(1e-3);
        // There is no half a user.
        let whole = points().all(|(x, _)| x.fract() == 0.0);
        let x_ticks = ticks(right.max(1e-3), if whole { 1.0 } else { 0.0 });
        let y_ticks = self.y_ticks(high);
        let (x_top, y_top) = (x_ticks[x_ticks.len() - 1], y_ticks[y_ticks.len() - 1]);
        let x = |value: f64| LEFT + (WIDTH - LEFT - RIGHT) * value / x_top;
        let y = |value: f64| {
            let share = match self.scale {
                Scale::Linear => value / y_top,
                Scale::Log => (value.max(y_ticks[0]) / y_ticks[0]).log10() / (y_top / y_ticks[0]).log10(),
            };
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share
        };
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-label=\"{title}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#333\">\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\
             <text x=\"{LEFT}\" y=\"20\" font-size=\"14\" font-weight=\"600\" fill=\"#111\">{title}</text>",
            title = escape(self.title)
        );
        self.axes(&mut svg, (&x_ticks, &x), (&y_ticks, &y));
        if let Some((mark, name)) = &self.mark {
            let (at, end) = (y(*mark), WIDTH - RIGHT);
            // Writing to a String cannot fail, here and below.
            write!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{end}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#b00\" \
                 stroke-dasharray=\"5 4\"/><text x=\"{end}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#b00\">{}</text>",
                at - 4.0,
                escape(name)
            )
            .ok();
        }
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let path: Vec<String> =
                line.points.iter().map(|(px, py)| format!("{:.1},{:.1}", x(*px), y(*py))).collect();
            write!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" \
                 stroke-linejoin=\"round\"/>",
                path.join(" ")
            )
            .ok();
            // Dots where they can be told apart.
            for (px, py) in line.points.iter().filter(|_| line.points.len() <= 40) {
                write!(svg, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>", x(*px), y(*py))
                    .ok();
            }
        }
        self.legend(&mut svg);
        svg.push_str("</svg>\n");
        Some(svg)
    }

    fn y_ticks(&self, high: f64) -> Vec<f64> {
        match self.scale {
            Scale::Linear => ticks(high, 0.0),
            Scale::Log => {
                let values = self.lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y);
                let low = values.filter(|y| *y > 0.0).fold(high, f64::min);
                let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
                let all: Vec<f64> =
                    powers.flat_map(|power| [1.0, 2.0, 5.0].map(|m| m * 10_f64.powi(power))).collect();
                let first = all.iter().rposition(|tick| *tick <= low).unwrap_or_default();
                let last = all.iter().position(|tick| *tick >= high).unwrap_or(all.len() - 1);
                all[first..=last.max(first + 1).min(all.len() - 1)].to_vec()
            }
        }
    }

    fn axes(
        &self,
        svg: &mut String,
        (x_ticks, x): (&[f64], &dyn Fn(f64) -> f64),
        (y_ticks, y): (&[f64], &dyn Fn(f64) -> f64),
    ) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in y_ticks {
            let at = y(*tick);
            write!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#e3e3e3\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                number(*tick)
            )
            .ok();
        }
        for tick in x_ticks {
            write!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                x(*tick),
                bottom + 16.0,
                number(*tick)
            )
            .ok();
        }
        let middle = f64::midpoint(TOP, bottom);
        write!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\" stroke=\"#888\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(14 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            f64::midpoint(LEFT, right),
            bottom + 34.0,
            escape(self.x),
            escape(self.y)
        )
        .ok();
    }

    fn legend(&self, svg: &mut String) {
        let mut at = LEFT;
        for (line, colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let y = HEIGHT - 14.0;
            write!(
                svg,
                "<rect x=\"{at:.1}\" y=\"{:.1}\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{y}\">{}</text>",
                y - 9.0,
                at + 15.0,
                escape(&line.name)
            )
            .ok();
            // About the width of its letters.
            at += 35.0 + 6.6 * line.name.chars().count() as f64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(scale: Scale, points: Vec<(f64, f64)>) -> Option<String> {
        let lines = vec![Line { name: "a < b".into(), points }];
        Chart { title: "t & u", x: "users", y: "ms", scale, lines, mark: Some((50.0, "limit".into())) }.svg()
    }

    #[test]
    fn round_ticks_reach_the_top() {
        assert_eq!(ticks(100.0, 0.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(ticks(7.0, 0.0), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(ticks(0.9, 0.0), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(ticks(2.0, 1.0), [0.0, 1.0, 2.0]);
        assert_eq!(number(ticks(0.9, 0.0)[3]), "0.6");
    }

    #[test]
    fn points_lie_where_they_belong() {
        let svg = chart(Scale::Linear, vec![(0.0, 0.0), (10.0, 100.0)]).unwrap();
        assert!(svg.contains("points=\"64.0,244.0 704.0,40.0\""), "{svg}");
        let svg = chart(Scale::Log, vec![(0.0, 10.0), (10.0, 1000.0)]).unwrap();
        assert!(svg.contains("points=\"64.0,244.0 704.0,40.0\""), "{svg}");
    }

    #[test]
    fn text_is_escaped_and_nothing_draws_nothing() {
        let svg = chart(Scale::Linear, vec![(0.0, 0.0)]).unwrap();
        assert!(svg.contains("t &amp; u") && svg.contains("a &lt; b") && !svg.contains("NaN"), "{svg}");
        assert_eq!(chart(Scale::Log, vec![]), None);
    }
}
