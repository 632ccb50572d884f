//! What is written down of a callback, in the state of its job.

use cloudpose_policy::callbacks::next_try;
use serde::{Deserialize, Serialize};
use url::Url;

use super::Outcome;
use crate::{
    jobs::document::State,
    outbound::{Reach, check_literal},
};

/// Longest address that is taken, in bytes.
const LONGEST: usize = 2048;

/// Who is to be called when a job is done, and what has become of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Callback {
    /// Where the receiver is.
    pub(crate) url: String,
    pub(crate) state: CallbackState,
    /// Since when it is tried, if not since the job is done.
    pub(crate) since: Option<u64>,
    /// How often it was since then.
    pub(crate) tries: u32,
    /// Why the last one was none.
    pub(crate) last_error: Option<String>,
    /// When the next one is, if not when the job is done.
    pub(crate) next_try_at: Option<u64>,
}

/// What has become of a callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CallbackState {
    /// It is to be sent, or sent again.
    Waiting,
    /// Its receiver has it.
    Delivered,
    /// It is given up.
    Failed,
}

impl Callback {
    /// One that is to be sent to `url`.
    ///
    /// # Errors
    /// Why it is not sent there, as far as can be told before the name is looked up.
    pub(super) fn to(url: &str, reach: &Reach) -> Result<Self, String> {
        if url.len() > LONGEST {
            return Err(format!("the address has {} bytes; at most {LONGEST} are taken", url.len()));
        }
        let write = "write it like https://app.example.com/done";
        let mut parsed = Url::parse(url).map_err(|error| format!("this is no address ({error}); {write}"))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(format!("{} is not spoken; {write}", parsed.scheme()));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(
                "an address with user and password is not called: the signature says who calls".into()
            );
        }
        check_literal(&parsed, reach)?;
        parsed.set_fragment(None);
        Ok(Self {
            url: parsed.into(),
            state: CallbackState::Waiting,
            since: None,
            tries: 0,
            last_error: None,
            next_try_at: None,
        })
    }

    /// It is sent again from now on, as if it had never been.
    pub(super) fn again(&mut self, now: u64) {
        let url = std::mem::take(&mut self.url);
        *self = Self {
            url,
            state: CallbackState::Waiting,
            since: Some(now),
            tries: 0,
            last_error: None,
            next_try_at: Some(now),
        };
    }
}

impl State {
    /// When its callback is to be sent; `None`: never, or not before it is done.
    pub(crate) fn callback_due(&self) -> Option<u64> {
        let callback = self.callback.as_ref().filter(|callback| callback.state == CallbackState::Waiting)?;
        let finished_at = self.finished_at?;
        Some(callback.next_try_at.unwrap_or(finished_at))
    }

    /// Its callback was tried. What has become of it.
    pub(super) fn called(&mut self, outcome: &Outcome, now: u64) -> Option<CallbackState> {
        let finished_at = self.finished_at?;
        let callback = self.callback.as_mut()?;
        callback.tries = callback.tries.saturating_add(1);
        let since = callback.since.unwrap_or(finished_at);
        let next = || next_try(self.upload.as_str(), callback.tries, since, now, self.expires_at);
        (callback.last_error, callback.next_try_at) = match outcome {
            Outcome::Delivered => (None, None),
            Outcome::Unwanted(why) => (Some(why.clone()), None),
            Outcome::Failed(why) => (Some(why.clone()), next()),
        };
        callback.state = match (outcome, callback.next_try_at) {
            (Outcome::Delivered, _) => CallbackState::Delivered,
            (_, Some(_)) => CallbackState::Waiting,
            (_, None) => CallbackState::Failed,
        };
        Some(callback.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_to_call_says_what_one_looks_like() {
        let reach = Reach::Public(vec!["10.0.0.0/8".parse().unwrap()], "--callback-allow");
        for (bad, why) in [
            ("app.example.com", "https://app.example.com/done"),
            ("ftp://app.example.com/", "ftp is not spoken"),
            ("file:///etc/passwd", "file is not spoken"),
            ("http://", "no address"),
            ("https://joe:hunter2@app.example.com/", "signature"),
            ("https://joe@app.example.com/", "signature"),
            ("http://127.0.0.1/", "--callback-allow"),
            ("http://0x7f.1/", "--callback-allow"),
            ("http://[::ffff:169.254.169.254]/", "--callback-allow"),
            ("http://192.168.1.1/", "private"),
        ] {
            let error = Callback::to(bad, &reach).unwrap_err();
            assert!(error.contains(why) && !error.contains("hunter2"), "{bad}: {error}");
        }
        assert!(Callback::to(&format!("http://a.example/{}", "a".repeat(LONGEST)), &reach).is_err());
        for (good, url) in [
            ("https://app.example.com", "https://app.example.com/"),
            ("http://10.1.2.3:8080/done?a=b#c", "http://10.1.2.3:8080/done?a=b"),
        ] {
            assert_eq!(Callback::to(good, &reach).unwrap().url, url);
        }
    }
}
