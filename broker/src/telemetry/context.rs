//! Where a span belongs: the W3C trace context of the message it is about. One that came without has a context of its
//! own, made from its id, so that every span of it is in one trace, also after a restart and without anything stored.

use escrow_protocol::MessageId;

use crate::records::Message;

/// The header that carries a trace context.
const TRACEPARENT: &str = "traceparent";

/// A trace, and the span in it that others hang from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Context {
    /// The trace.
    pub(super) trace: [u8; 16],
    /// The span that caused what follows.
    pub(super) span: [u8; 8],
    /// Its spans are wanted.
    pub(super) sampled: bool,
    /// It was made here: nobody else has reported `span`.
    pub(super) own: bool,
}

impl Context {
    /// That of a message; of those that came without one, so many of a thousand are wanted.
    pub(super) fn of(message: &Message, sample_permille: u32) -> Self {
        let header = message.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(TRACEPARENT));
        let given = header.and_then(|(_, value)| Self::parse(value));
        given.unwrap_or_else(|| Self::derived(message.id, sample_permille))
    }

    /// `00-<trace>-<span>-<flags>`; a later version may have more behind it. Anything else is no context.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let [version] = hex::<1>(version)?;
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return None;
        }
        let (trace, span, [flags]) = (hex::<16>(trace)?, hex::<8>(span)?, hex::<1>(flags)?);
        let is_given = trace.iter().any(|byte| *byte != 0) && span.iter().any(|byte| *byte != 0);
        is_given.then_some(Self { trace, span, sampled: flags & 1 == 1, own: false })
    }

    fn derived(id: MessageId, sample_permille: u32) -> Self {
        let trace = *id.as_bytes();
        let mut span = [0; 8];
        span.copy_from_slice(&trace[8..]);
        // The last bytes of an id are random: they choose alike wherever the choice is made.
        let drawn = u64::from_be_bytes(span) % 1000;
        Self { trace, span, sampled: drawn < u64::from(sample_permille), own: true }
    }
}

/// Lower-case hexadecimal, as the standard has it.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_context_is_read_as_the_standard_has_it() {
        let context = Context::parse(&format!("00-{TRACE}-00f067aa0ba902b7-01")).expect("a context");
        assert_eq!((context.trace[0], context.span[7], context.sampled), (0x4b, 0xb7, true));
        let unsampled = Context::parse(&format!("00-{TRACE}-00f067aa0ba902b7-00")).expect("a context");
        assert!(!unsampled.sampled);
        assert!(Context::parse(&format!("01-{TRACE}-00f067aa0ba902b7-01-more")).is_some(), "a later version");
        for wrong in [
            String::new(),
            "a".to_owned(),
            format!("00-{TRACE}-00f067aa0ba902b7"),
            format!("00-{TRACE}-00f067aa0ba902b7-01-more"),
            format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
        ] {
            assert_eq!(Context::parse(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_message_without_a_context_has_its_own_every_time() {
        let id = MessageId::new(1_700_000_000_000, [7; 10]);
        let context = Context::derived(id, 1000);
        assert_eq!(context, Context::derived(id, 1000));
        assert_eq!(context.trace, *id.as_bytes());
        assert!(context.sampled && context.own);
        assert!(!Context::derived(id, 0).sampled);
    }

    #[test]
    fn about_as_many_are_wanted_as_asked_for() {
        let mut generator = fastrand::Rng::with_seed(1);
        let wanted = (0..10_000).filter(|_| {
            let mut random = [0; 10];
            generator.fill(&mut random);
            Context::derived(MessageId::new(1, random), 100).sampled
        });
        let wanted = wanted.count();
        assert!((800..1_200).contains(&wanted), "{wanted} of 10,000");
    }
}
