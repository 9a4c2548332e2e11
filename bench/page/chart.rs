//! Charts as SVG: bars and lines. Numbers in, text out; the same numbers make the same text.

use std::fmt::Write as _;

use crate::rows::number;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 250.0;
const RIGHT: f64 = 110.0;
const BAR: f64 = 22.0;
const TOP: f64 = 44.0;
const PLOT_HEIGHT: f64 = 240.0;
/// Room for the numbers left of a plot.
const AXIS: f64 = 90.0;
/// Readable on light and on dark.
const COLOURS: [&str; 4] = ["#3b78c2", "#c2703b", "#4a9a5a", "#8a5ab0"];
const TEXT: &str = "#777777";

/// A bar, and the mark of its target.
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) value: f64,
    pub(crate) target: Option<f64>,
}

/// A line of points, one for each label of the axis.
pub(crate) struct Line {
    pub(crate) label: &'static str,
    pub(crate) values: Vec<f64>,
}

/// Lying bars with their numbers; a mark stands for a target.
pub(crate) fn bars(title: &str, unit: &str, bars: &[Bar]) -> String {
    let most =
        bars.iter().flat_map(|bar| [Some(bar.value), bar.target]).flatten().fold(f64::EPSILON, f64::max);
    let scale = (WIDTH - LEFT - RIGHT) / most;
    let height = TOP + BAR * 1.4 * bars.len() as f64 + 10.0;
    let mut svg = head(title, height);
    for (index, bar) in bars.iter().enumerate() {
        let y = TOP + BAR * 1.4 * index as f64;
        let middle = y + BAR * 0.7;
        let width = bar.value * scale;
        text(&mut svg, LEFT - 8.0, middle, "end", &bar.label);
        let _ = writeln!(
            svg,
            r#"<rect x="{LEFT:.0}" y="{y:.1}" width="{width:.1}" height="{BAR:.0}" fill="{}"/>"#,
            COLOURS[0]
        );
        text(&mut svg, LEFT + width + 6.0, middle, "start", &format!("{}{unit}", number(bar.value)));
        if let Some(target) = bar.target {
            let x = LEFT + target * scale;
            let (from, to) = (y - 3.0, y + BAR + 3.0);
            let _ = writeln!(
                svg,
                r#"<line x1="{x:.1}" y1="{from:.1}" x2="{x:.1}" y2="{to:.1}" stroke="{}" stroke-width="3"/>"#,
                COLOURS[1]
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Lines over labels, from zero.
pub(crate) fn lines(title: &str, unit: &str, labels: &[String], lines: &[Line]) -> String {
    let most = lines.iter().flat_map(|line| &line.values).copied().fold(f64::EPSILON, f64::max);
    let (bottom, plot_width) = (TOP + PLOT_HEIGHT, WIDTH - AXIS - 30.0);
    let step = plot_width / (labels.len().max(2) - 1) as f64;
    let mut svg = head(title, bottom + 50.0);
    for part in 0..=4 {
        let value = most * f64::from(part) / 4.0;
        let y = bottom - PLOT_HEIGHT * f64::from(part) / 4.0;
        let end = AXIS + plot_width;
        let _ = writeln!(
            svg,
            r#"<line x1="{AXIS:.0}" y1="{y:.1}" x2="{end:.0}" y2="{y:.1}" stroke="{TEXT}" stroke-width="0.5"/>"#
        );
        text(&mut svg, AXIS - 6.0, y + 4.0, "end", &format!("{}{unit}", number(value)));
    }
    // No more labels than there is room for.
    let every = labels.len().div_ceil(10).max(1);
    for (index, label) in labels.iter().enumerate().filter(|(index, _)| index % every == 0) {
        text(&mut svg, AXIS + step * index as f64, bottom + 18.0, "middle", label);
    }
    for (index, line) in lines.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let points: Vec<_> = line
            .values
            .iter()
            .enumerate()
            .map(|(at, value)| {
                format!("{:.1},{:.1}", AXIS + step * at as f64, bottom - value / most * PLOT_HEIGHT)
            })
            .collect();
        let points = points.join(" ");
        let _ =
            writeln!(svg, r#"<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>"#);
        let x = AXIS + 170.0 * index as f64;
        let y = bottom + 32.0;
        let _ = writeln!(svg, r#"<rect x="{x:.0}" y="{y:.0}" width="12" height="12" fill="{colour}"/>"#);
        text(&mut svg, x + 18.0, y + 11.0, "start", line.label);
    }
    svg.push_str("</svg>\n");
    svg
}

fn head(title: &str, height: f64) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" font-family=\"sans-serif\" \
         font-size=\"13\" role=\"img\">\n<title>{}</title>\n",
        escaped(title)
    );
    text(&mut svg, 10.0, 22.0, "start", title);
    svg
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let words = escaped(words);
    let _ =
        writeln!(svg, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" fill="{TEXT}">{words}</text>"#);
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fills_the_room_and_words_are_escaped() {
        let all = [
            Bar { label: "a < b".into(), value: 50.0, target: Some(100.0) },
            Bar { label: "c".into(), value: 25.0, target: None },
        ];
        let svg = bars("t", "/s", &all);
        assert!(
            svg.contains("a &lt; b") && svg.contains("width=\"200.0\"") && svg.contains("width=\"100.0\""),
            "{svg}"
        );
        assert!(svg.contains("x1=\"650.0\""), "the target stands at the end: {svg}");
    }

    #[test]
    fn a_line_goes_from_the_axis_to_its_end() {
        let labels: Vec<_> = ["1", "10", "100"].map(str::to_owned).into();
        let svg = lines("t", "", &labels, &[Line { label: "l", values: vec![1.0, 2.0, 4.0] }]);
        assert!(svg.contains("90.0,224.0 410.0,164.0 730.0,44.0"), "{svg}");
    }
}
