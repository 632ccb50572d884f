//! Searches the largest load that holds: [`Search`] says what to try, the [`Runner`] tries it, [`judge`] judges.

use crate::{
    judge::judge,
    search::{Ask, Search},
    summary::{Run, SearchRecord, Step},
    verdict::{Objective, Verdict},
};

/// Makes the runs that a search asks for.
pub(crate) trait Runner {
    /// Makes one.
    async fn run(&mut self, ask: Ask) -> Run;
    /// Is shown what came of it.
    fn show(&mut self, step: &Step);
}

/// Runs that are made at one load before the search gives up because none can be believed.
const ATTEMPTS: usize = 3;

/// Searches to the end. A run that cannot be believed is made again; if none of [`ATTEMPTS`] is better the search
/// ends without an answer.
pub(crate) async fn find_max(
    mut search: Search,
    objective: &Objective,
    replicas: Option<u32>,
    runner: &mut impl Runner,
) -> SearchRecord {
    let mut steps: Vec<Step> = Vec::new();
    while let Some(ask) = search.next() {
        let run = runner.run(ask).await;
        let (verdict, reasons) = judge(&run, objective);
        let step = Step { long: matches!(ask, Ask::Confirm(_)), verdict, reasons, run };
        runner.show(&step);
        steps.push(step);
        match verdict {
            Verdict::Held => search.answer(ask, true),
            Verdict::Missed => search.answer(ask, false),
            Verdict::Unsound => {
                let last = steps.iter().rev().take_while(|step| step.verdict == Verdict::Unsound);
                if last.count() == ATTEMPTS {
                    break;
                }
            }
        }
    }
    SearchRecord { replicas, found: search.found(), steps }
}

#[cfg(test)]
mod tests;
