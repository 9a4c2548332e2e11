//! Before anything is changed by hand: a page that says what will happen and asks who and why. The same for every action.

use axum::http::StatusCode;
use maud::{Markup, html};

use super::parts::{field, section};
use super::shell::{Place, Sheet};
use super::visit::Visit;
use super::{Answer, Outcome};
use crate::engine::Refusal;
use crate::http::api::fault::status_of;
use crate::service::Operator;

/// An action to be confirmed.
pub(super) struct Confirm {
    pub(super) place: Place,
    pub(super) title: String,
    /// What will happen, point by point.
    pub(super) happens: Vec<String>,
    /// It cannot be undone.
    pub(super) grave: bool,
    /// It changes nothing, or can be done over: the reason may be left out.
    pub(super) light: bool,
    /// What the button says.
    pub(super) button: &'static str,
    /// Where the way back leads.
    pub(super) back: String,
    /// More to choose.
    pub(super) choices: Markup,
    /// More to look at, below the form.
    pub(super) below: Markup,
}

impl Confirm {
    /// An action that needs nothing but a name and a reason.
    pub(super) fn new(place: Place, title: String, button: &'static str, back: String) -> Self {
        let (choices, below) = (html! {}, html! {});
        Self { place, title, happens: Vec::new(), grave: false, light: false, button, back, choices, below }
    }

    /// The page for who is not known yet and does something that needs no reason: it asks for the name, once.
    pub(super) fn who(
        place: Place,
        title: String,
        button: &'static str,
        back: String,
        visit: &Visit,
    ) -> Sheet {
        let happens = vec![visit.words().name_for_audit.to_owned()];
        Self { happens, light: true, ..Self::new(place, title, button, back) }.ask(visit)
    }

    /// The page that asks.
    pub(super) fn ask(self, visit: &Visit) -> Sheet {
        self.page(visit, None)
    }

    /// Does it, if the form says who and why; else, or if it is refused, asks again and says what is wrong. When it is
    /// done, the way leads back, or where `act` says.
    ///
    /// # Errors
    /// None: every refusal is shown on the page.
    pub(super) async fn carry_out<F: Future<Output = Result<Option<String>, Refusal>>>(
        self,
        visit: &Visit,
        act: impl FnOnce(Operator) -> F,
    ) -> Outcome {
        let operator = match visit.operator() {
            Ok(operator) => operator,
            Err(missing) => {
                let sheet = self.page(visit, Some(missing));
                return Ok(sheet.with_status(StatusCode::UNPROCESSABLE_ENTITY).into());
            }
        };
        let by = operator.name.clone();
        match act(operator).await {
            Ok(elsewhere) => {
                let join = if self.back.contains('?') { '&' } else { '?' };
                let to = elsewhere.unwrap_or_else(|| format!("{}{join}done=1", self.back));
                Ok(Answer::Done { to, by })
            }
            Err(refusal) => {
                let status = status_of(refusal.reason);
                Ok(self.page(visit, Some(&visit.worded(&refusal))).with_status(status).into())
            }
        }
    }

    fn page(self, visit: &Visit, wrong: Option<&str>) -> Sheet {
        let words = visit.words();
        let content = html! {
            @if let Some(wrong) = wrong {
                div.note.bad role="alert" { p { strong { (words.problem) ": " } (wrong) } p { (words.not_done) } }
            }
            (section(words.what_happens, &html! {
                ul.happens { @for point in &self.happens { li { (point) } } }
            }))
            form.confirm method="post" action=(if self.light { visit.address_with(&[]) } else { visit.path().to_owned() }) {
                input type="hidden" name="token" value=(visit.token());
                (self.choices)
                (who_and_why(visit, self.light))
                div.buttons {
                    button type="submit" .grave[self.grave] .sure[self.grave] { (self.button) }
                    a.button.quiet href=(self.back) { (words.cancel) }
                }
            }
            (self.below)
        };
        Sheet::new(self.place, self.title, content)
    }
}

fn who_and_why(visit: &Visit, light: bool) -> Markup {
    let words = visit.words();
    let name = html! {
        input #operator name="operator" type="text" required maxlength="256" autocomplete="name" aria-describedby="operator-help"
            value=(visit.operator_name());
    };
    let reason = html! {
        input #reason name="reason" type="text" required[!light] maxlength="1024" autocomplete="off" aria-describedby="reason-help"
            value=(visit.field("reason").unwrap_or_default());
    };
    html! {
        (field("operator", words.your_name, words.your_name_help, &name))
        (field("reason", words.reason_label, words.reason_help, &reason))
    }
}

/// Filters carried through a form.
pub(super) fn carried<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Markup {
    html! { @for (name, value) in pairs { input type="hidden" name=(name) value=(value); } }
}
