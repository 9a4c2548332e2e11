//! A curve as a picture: SVG made here, so that it is the same with and without a script, and follows the colours of the
//! style sheet. Who cannot see it hears its numbers.

use maud::{Markup, html};

use super::rates::Curve;

/// Units of the picture; the style sheet stretches it.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 80.0;
/// Bars of ten minutes: the picture always shows all of them, newest to the right.
const BARS: usize = 120;

/// The picture of a curve; `label` says it in words.
pub(super) fn bars(curve: &Curve, label: &str) -> Markup {
    let step = WIDTH / BARS as f64;
    let empty = BARS.saturating_sub(curve.bars.len());
    let top = curve.peak.max(f64::MIN_POSITIVE);
    html! {
        svg.chart viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-label=(label) {
            @for (nth, value) in curve.bars.iter().enumerate().filter(|(_, value)| **value > 0.0) {
                @let height = (value / top * HEIGHT).max(1.0);
                rect x=(format!("{:.1}", (empty + nth) as f64 * step)) y=(format!("{:.1}", HEIGHT - height))
                    width=(format!("{:.1}", step * 0.8)) height=(format!("{height:.1}")) {}
            }
            line.base x1="0" x2=(WIDTH) y1=(HEIGHT) y2=(HEIGHT) {}
        }
    }
}
