//! Where an inference may rest: between the steps of a model on the processor. Nobody waits for anything that it holds there.

use std::cell::RefCell;

use cloudpose_bus::Rest;

thread_local! {
    /// That of the frame on which this thread works.
    static REST: RefCell<Option<Rest>> = const { RefCell::new(None) };
}

/// Runs `work`, which rests when it is told to.
pub(crate) fn during<T>(rest: Rest, work: impl FnOnce() -> T) -> T {
    struct Ends;
    impl Drop for Ends {
        fn drop(&mut self) {
            REST.set(None);
        }
    }
    REST.set(Some(rest));
    let _ends = Ends;
    work()
}

/// Rests here, if the work of this thread is to.
pub(crate) fn here() {
    REST.with_borrow(|rest| rest.iter().for_each(Rest::here));
}
