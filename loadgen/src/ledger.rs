//! The books of one stream: every frame that was sent must come back once, as a result or as a drop, and
//! results in rising order. Pure.

use std::collections::VecDeque;

use crate::failure::Failure;

/// Frames without an answer that are remembered at once. More are given up, oldest first, as never answered:
/// a server that loses everything must not fill our memory.
const OPEN: usize = 4096;

/// Which frames of a stream are still open.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// `open[i]`: whether frame `first + i` is still without an answer. Begins with an open one.
    open: VecDeque<bool>,
    /// Frames before the first of `open`.
    before: u64,
    /// `seq` of the last result.
    last: u64,
    given_up: u64,
    checked: u64,
}

impl Ledger {
    /// The next frame is sent.
    pub(crate) fn sent(&mut self) {
        self.open.push_back(true);
        if self.open.len() > OPEN {
            self.open.pop_front();
            self.before += 1;
            self.given_up += 1;
            self.forget_closed();
        }
    }

    /// A result came.
    ///
    /// # Errors
    /// What is wrong with it: nobody sent that frame, it was answered before, or one of a later frame was.
    pub(crate) fn result(&mut self, seq: u64) -> Result<(), Failure> {
        self.close(seq)?;
        if seq < self.last {
            return Err(Failure::OutOfOrder);
        }
        self.last = seq;
        Ok(())
    }

    /// The server says that it dropped a frame.
    ///
    /// # Errors
    /// If nobody sent that frame, or it was answered before.
    pub(crate) fn dropped(&mut self, seq: u64) -> Result<(), Failure> {
        self.close(seq)
    }

    fn close(&mut self, seq: u64) -> Result<(), Failure> {
        self.checked += 1;
        if seq == 0 || seq > self.before + self.open.len() as u64 {
            return Err(Failure::WrongId);
        }
        let index = seq.checked_sub(self.before + 1).and_then(|index| usize::try_from(index).ok());
        let open = index.and_then(|index| self.open.get_mut(index)).ok_or(Failure::Duplicate)?;
        if !std::mem::take(open) {
            return Err(Failure::Duplicate);
        }
        self.forget_closed();
        Ok(())
    }

    fn forget_closed(&mut self) {
        while self.open.front() == Some(&false) {
            self.open.pop_front();
            self.before += 1;
        }
    }

    /// Frames that were sent and have no answer.
    pub(crate) fn unanswered(&self) -> u64 {
        self.given_up + self.open.iter().filter(|open| **open).count() as u64
    }

    /// Ids that came back and were looked up here.
    pub(crate) fn checked(&self) -> u64 {
        self.checked
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after_sending(frames: usize) -> Ledger {
        let mut ledger = Ledger::default();
        (0..frames).for_each(|_| ledger.sent());
        ledger
    }

    #[test]
    fn a_good_server_is_not_blamed() {
        let mut ledger = after_sending(4);
        assert_eq!(ledger.result(2), Ok(()));
        assert_eq!(ledger.dropped(1), Ok(()), "drops come in any order");
        assert_eq!(ledger.dropped(4), Ok(()));
        assert_eq!(ledger.result(3), Ok(()));
        assert_eq!((ledger.unanswered(), ledger.checked()), (0, 4));
    }

    #[test]
    fn lies_are_named() {
        let mut ledger = after_sending(4);
        assert_eq!(ledger.result(5), Err(Failure::WrongId), "not sent yet");
        assert_eq!(ledger.result(0), Err(Failure::WrongId));
        assert_eq!(ledger.result(3), Ok(()));
        assert_eq!(ledger.result(2), Err(Failure::OutOfOrder));
        assert_eq!(ledger.result(3), Err(Failure::Duplicate));
        assert_eq!(ledger.dropped(3), Err(Failure::Duplicate));
        assert_eq!(ledger.result(1), Err(Failure::OutOfOrder));
        assert_eq!(ledger.result(1), Err(Failure::Duplicate), "also when it is long forgotten");
        assert_eq!(ledger.unanswered(), 1);
    }

    #[test]
    fn a_server_that_answers_nothing_fills_no_memory() {
        let mut ledger = after_sending(100_000);
        assert_eq!(ledger.unanswered(), 100_000);
        assert!(ledger.open.len() <= OPEN);
        assert_eq!(ledger.result(100_000), Ok(()));
        assert_eq!(ledger.unanswered(), 99_999);
    }

    proptest! {
        #[test]
        fn whatever_comes_back_the_count_is_right(answers in proptest::collection::vec(0..80_u64, 0..200)) {
            let mut ledger = after_sending(60);
            let mut seen = std::collections::HashSet::new();
            for seq in answers {
                let answer = ledger.dropped(seq);
                let expected = match seq {
                    1..=60 if seen.insert(seq) => Ok(()),
                    1..=60 => Err(Failure::Duplicate),
                    _ => Err(Failure::WrongId),
                };
                prop_assert_eq!(answer, expected);
            }
            prop_assert_eq!(ledger.unanswered(), 60 - seen.len() as u64);
        }
    }
}
