//! Where the frames of streams wait for their turn to go on the bus, if that has none by stream.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cloudpose_bus::Bus;
use cloudpose_policy::{
    gate::{Gate as Waiting, most_out},
    lanes::Owner,
};
use cloudpose_wire::Tenant;
use tokio::sync::oneshot;

/// The gate of a gateway. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<Shared>);

/// Whose turn somebody waits for, and how he is told.
type Waiter = (Owner, oneshot::Sender<Leave>);

#[derive(Debug)]
struct Shared {
    bus: Bus,
    waiting: Mutex<Waiting<Waiter>>,
}

impl Gate {
    pub(crate) fn new(bus: Bus) -> Self {
        Self(Arc::new(Shared { bus, waiting: Mutex::default() }))
    }

    /// Waits for a turn of `owner`'s. Dropping the future leaves the turn to the next frame of its stream.
    pub(crate) async fn pass(&self, owner: Owner) -> Leave {
        let (tell, told) = oneshot::channel();
        let tenant = owner.tenant.clone();
        self.waiting().ask(&owner.clone(), (owner, tell));
        self.let_out(&tenant);
        match told.await {
            Ok(leave) => leave,
            Err(_) => unreachable!("whoever waits is told: the gate is here"),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<Waiter>> {
        // Every change leaves it whole, so a panic elsewhere does not spoil it.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those of a tenant's who may go now.
    fn let_out(&self, tenant: &Tenant) {
        let most = self.0.bus.first_come_slots().map_or(usize::MAX, most_out);
        loop {
            let Some((owner, told)) = self.waiting().next(tenant, most) else { break };
            if told.is_closed() {
                let mut waiting = self.waiting();
                waiting.wasted(&owner);
                waiting.back(tenant);
                continue;
            }
            // Who gives up at this moment lets the next go.
            drop(told.send(Leave { gate: self.clone(), tenant: tenant.clone() }));
        }
    }
}

/// A frame's leave to go, until it has come to its end.
#[derive(Debug)]
pub(crate) struct Leave {
    gate: Gate,
    tenant: Tenant,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.gate.waiting().back(&self.tenant);
        self.gate.let_out(&self.tenant);
    }
}

#[cfg(test)]
mod tests {
    use cloudpose_bus::Capacity;
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn where_streams_have_turns_nobody_waits_and_who_gives_up_holds_nothing() {
        let gate = Gate::new(Bus::local(Capacity::default()));
        let owner = || Owner { tenant: Tenant::default(), stream: "cam".parse().unwrap() };
        let leaves: Vec<Leave> =
            (0..100).map(|_| gate.pass(owner()).now_or_never().expect("nobody waits")).collect();
        gate.waiting().ask(&owner(), (owner(), oneshot::channel().0));
        drop(leaves);
        assert!(gate.pass(owner()).now_or_never().is_some());
    }
}
