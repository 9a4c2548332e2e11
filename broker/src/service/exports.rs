//! Lists taken out of the broker as a whole. They change nothing; but what was taken out, and by whom, is in the audit
//! before the first item goes. Read page by page as they are taken: their length does not matter here.

use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};

use super::{AuditFilter, AuditView, DeadLetterFilter, DeadLetterView, Operator, Page, Paged, Service};
use crate::engine::{Refusal, moment, words_of_letters};
use crate::records::AuditVerb;

/// Items read at a time.
const PAGE: usize = 100;

impl Service {
    /// Dead letters with their bodies; one that is resolved meanwhile comes without.
    ///
    /// # Errors
    /// `UnknownGroup`. What ends it later is its last item.
    pub async fn export_dead_letters(
        &self,
        filter: DeadLetterFilter,
        operator: Operator,
    ) -> Result<impl Stream<Item = Result<DeadLetterView, Refusal>> + Send + 'static, Refusal> {
        // Whose group is unknown takes nothing out.
        let first = self.dead_letters(filter.clone(), first_page()).await?;
        self.attest_export(&filter, operator).await?;
        let (service, reader) = (self.clone(), self.clone());
        let listed = whole(first, move |page| {
            let (service, filter) = (service.clone(), filter.clone());
            async move { service.dead_letters(filter, page).await }
        });
        Ok(listed.and_then(move |listed| {
            let service = reader.clone();
            async move {
                let whole = service.dead_letter(listed.record.group.clone(), listed.offset).await;
                Ok(whole.unwrap_or(listed))
            }
        }))
    }

    /// What was done by hand.
    ///
    /// # Errors
    /// `Damaged`. What ends it later is its last item.
    pub async fn export_audit(
        &self,
        filter: AuditFilter,
        operator: Operator,
    ) -> Result<impl Stream<Item = Result<AuditView, Refusal>> + Send + 'static, Refusal> {
        self.attest_audit_export(&filter, operator).await?;
        let first = self.audit(filter.clone(), first_page()).await?;
        let service = self.clone();
        Ok(whole(first, move |page| {
            let (service, filter) = (service.clone(), filter.clone());
            async move { service.audit(filter, page).await }
        }))
    }

    /// Writes down that somebody takes these dead letters out.
    ///
    /// # Errors
    /// If the broker is stopping.
    pub(crate) async fn attest_export(
        &self,
        filter: &DeadLetterFilter,
        operator: Operator,
    ) -> Result<(), Refusal> {
        let target = filter.group.as_ref().map_or_else(|| "all groups".to_owned(), ToString::to_string);
        let message = filter.message.map_or(String::new(), |id| format!(" message={id}"));
        let what = format!("{}{message}", words_of_letters(&filter.letters));
        self.attest(operator, AuditVerb::DeadLetterExport, target, what.trim_start().to_owned()).await
    }

    /// Writes down that somebody takes the audit out.
    ///
    /// # Errors
    /// If the broker is stopping.
    pub(crate) async fn attest_audit_export(
        &self,
        filter: &AuditFilter,
        operator: Operator,
    ) -> Result<(), Refusal> {
        self.attest(operator, AuditVerb::AuditExport, "audit".to_owned(), words_of(filter)).await
    }
}

fn first_page() -> Page {
    Page { limit: PAGE, cursor: None }
}

/// The items of this page and of all behind it.
fn whole<T: Send + 'static, F: Future<Output = Result<Paged<T>, Refusal>> + Send + 'static>(
    first: Paged<T>,
    read: impl Fn(Page) -> F + Send + 'static,
) -> impl Stream<Item = Result<T, Refusal>> + Send + 'static {
    let pages = stream::try_unfold((Some(first), None, read), |(at_hand, next, read)| async move {
        let page: Paged<T> = match (at_hand, next) {
            (Some(page), _) => page,
            (None, Some(cursor)) => read(Page { limit: PAGE, cursor: Some(cursor) }).await?,
            (None, None) => return Ok(None),
        };
        Ok(Some((page.items, (None, page.next, read))))
    });
    pages.map_ok(|items| stream::iter(items.into_iter().map(Ok))).try_flatten().boxed()
}

fn words_of(filter: &AuditFilter) -> String {
    let at = |ms: u64| Some(ms).filter(|ms| *ms > 0).map(moment);
    let parts = [
        ("name", filter.name.clone()),
        ("verb", filter.verb.map(|verb| verb.as_str().to_owned())),
        ("target", filter.target.clone()),
        ("from", at(filter.from_ms)),
        ("until", at(filter.until_ms)),
    ];
    let said = parts.into_iter().filter_map(|(name, text)| text.map(|text| format!("{name}={text}")));
    said.collect::<Vec<_>>().join(" ")
}
