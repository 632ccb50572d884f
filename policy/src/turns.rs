//! Live and still frames in turn.

use cloudpose_wire::Kind;

/// Whose turn it is at one stage.
#[derive(Debug, Clone, Copy, Default)]
pub struct Turns {
    /// The kind of which the last frame was handed out.
    last: Option<Kind>,
}

impl Turns {
    /// The kinds in the order in which their lanes are looked at.
    pub fn order(&self) -> [Kind; 2] {
        match self.last {
            Some(Kind::Live) => [Kind::Still, Kind::Live],
            Some(Kind::Still) | None => [Kind::Live, Kind::Still],
        }
    }

    /// A frame of `kind` was handed out.
    pub fn took(&mut self, kind: Kind) {
        self.last = Some(kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_served_last_comes_second() {
        let mut turns = Turns::default();
        assert_eq!(turns.order(), [Kind::Live, Kind::Still]);
        turns.took(Kind::Live);
        assert_eq!(turns.order(), [Kind::Still, Kind::Live]);
        assert_eq!(turns.order(), [Kind::Still, Kind::Live], "looking takes no turn");
        turns.took(Kind::Still);
        assert_eq!(turns.order(), [Kind::Live, Kind::Still]);
    }
}
