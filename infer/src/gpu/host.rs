//! The host in a GPU's place: plain loops, slow. What tests of everything but the launches run on.

use std::time::{Duration, Instant};

use super::memory::{Number, Problem, Result, Slot, Values};
use super::program::{Device, Program, Spent};

/// Memory of the host.
#[derive(Debug)]
pub(super) struct Host {
    memory: Vec<Values>,
    upload: Duration,
    compute: Duration,
}

impl Host {
    pub(super) fn new() -> Self {
        Self { memory: Vec::new(), upload: Duration::ZERO, compute: Duration::ZERO }
    }

    /// What is in `slot`.
    #[cfg(test)]
    pub(super) fn values(&self, slot: Slot) -> &Values {
        &self.memory[slot.0]
    }
}

impl Device for Host {
    fn put(&mut self, values: &Values) -> Result<Slot> {
        self.memory.push(values.clone());
        Ok(Slot(self.memory.len() - 1))
    }

    fn take(&mut self, number: Number, len: usize) -> Result<Slot> {
        self.put(&Values::zeros(number, len))
    }

    fn replace(&mut self, slot: Slot, len: usize) -> Result<()> {
        self.memory[slot.0] = Values::zeros(self.memory[slot.0].number(), len);
        Ok(())
    }

    fn len(&self, slot: Slot) -> usize {
        self.memory[slot.0].len()
    }

    fn upload(&mut self, slot: Slot, len: usize, write: &mut dyn FnMut(&mut [u8])) -> Result<()> {
        let begun = Instant::now();
        let Values::U8(bytes) = &mut self.memory[slot.0] else {
            return Err(Problem::Says("uploads are bytes".to_owned()));
        };
        write(&mut bytes[..len]);
        self.upload = begun.elapsed();
        Ok(())
    }

    fn run(&mut self, program: &mut Program) -> Result<()> {
        let begun = Instant::now();
        for step in &program.steps {
            let Slot(output) = step.output;
            let number = self.memory[output].number();
            let mut values = std::mem::replace(&mut self.memory[output], Values::zeros(number, 0));
            let inputs: Vec<_> = step.inputs.iter().map(|slot| &self.memory[slot.0]).collect();
            let done = step.op.compute(&inputs, &mut values);
            self.memory[output] = values;
            done?;
        }
        self.compute = begun.elapsed();
        Ok(())
    }

    fn download(&mut self, slot: Slot, to: &mut [u8]) -> Result<Spent> {
        let begun = Instant::now();
        to.copy_from_slice(&self.memory[slot.0].bytes()[..to.len()]);
        Ok(Spent { upload: self.upload, compute: self.compute, download: begun.elapsed() })
    }
}
