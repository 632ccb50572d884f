use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::lease::{RENEWED_EVERY, TERM, Term};

fn gateway(n: usize) -> GatewayId {
    GatewayId::new(&format!("g{n}")).unwrap()
}

fn key(n: usize) -> Key {
    (Tenant::default(), StreamName::new(&format!("c{n}")).unwrap())
}

/// What all see, and what each has of it.
#[derive(Default)]
struct World {
    last: u64,
    members: BTreeMap<usize, (u64, Member)>,
    cameras: BTreeMap<Key, (u64, Wanted)>,
    gateways: BTreeMap<usize, Gateway>,
}

struct Gateway {
    fleet: Fleet,
    term: Term,
    fetches: BTreeSet<Key>,
    /// It does nothing any more, but that what it fetches goes on until its lease ends.
    is_stuck: bool,
}

impl World {
    fn revision(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn start(&mut self, now: Instant, n: usize, own: BTreeSet<Key>) {
        let fleet = Fleet::new(now, gateway(n), Member { is_leaving: false, own });
        self.gateways
            .insert(n, Gateway { fleet, term: Term::default(), fetches: BTreeSet::new(), is_stuck: false });
    }

    fn wanted(&self) -> BTreeMap<Key, Wanted> {
        self.cameras.iter().map(|(key, (_, wanted))| (key.clone(), wanted.clone())).collect()
    }

    /// A gateway renews, reads and does what it has decided.
    fn round(&mut self, now: Instant, n: usize) {
        let (wanted, revision) = (self.wanted(), self.revision());
        let Some(it) = self.gateways.get_mut(&n) else { return };
        if !it.term.is_held(now) {
            it.fetches.clear();
        }
        if it.is_stuck {
            return;
        }
        it.term.renewed(now);
        self.members.insert(n, (revision, it.fleet.myself().clone()));
        for own in &it.fleet.myself().own {
            let new = (revision, Wanted { holder: None, is_own: true });
            self.cameras.entry(own.clone()).or_insert(new);
        }
        let members =
            self.members.iter().map(|(n, (revision, member))| (gateway(*n), *revision, member.clone()));
        it.fleet.saw(now, members, &wanted);
        let me = gateway(n);
        it.fetches.retain(|key| wanted.get(key).is_some_and(|camera| camera.holder.as_ref() == Some(&me)));
        for step in it.fleet.plan(now, &wanted, &it.fetches) {
            match step {
                Step::Take(key) => {
                    self.cameras.get_mut(&key).unwrap().1.holder = Some(me.clone());
                    it.fetches.insert(key);
                }
                Step::Give(key, to) => {
                    it.fetches.remove(&key);
                    self.cameras.get_mut(&key).unwrap().1.holder = to;
                }
                Step::Forget(key) => drop(self.cameras.remove(&key)),
            }
        }
    }

    /// How many cameras each fetches.
    fn loads(&self) -> Vec<usize> {
        self.gateways.values().map(|it| it.fetches.len()).collect()
    }

    /// Several rounds of all.
    fn run(&mut self, now: &mut Instant, rounds: usize) {
        for _ in 0..rounds {
            for n in self.gateways.keys().copied().collect::<Vec<_>>() {
                self.round(*now, n);
            }
            *now += RENEWED_EVERY;
        }
    }

    fn name(&mut self, cameras: std::ops::Range<usize>) {
        for n in cameras {
            self.cameras.insert(key(n), (0, Wanted { holder: None, is_own: false }));
        }
    }
}

#[test]
fn cameras_are_shared_and_who_comes_gets_some() {
    let (mut world, mut now) = (World::default(), Instant::now());
    world.name(0..60);
    world.start(now, 0, BTreeSet::new());
    world.run(&mut now, 1);
    assert_eq!(world.loads(), [60], "nobody else is there");
    world.start(now, 1, BTreeSet::new());
    world.start(now, 2, BTreeSet::new());
    world.run(&mut now, 1);
    assert!(world.loads()[0] >= 60 - 2 * MOVES, "a few at a time: {:?}", world.loads());
    world.run(&mut now, 15);
    assert_eq!(world.loads(), [20; 3]);
    let before: Vec<_> = world.gateways.values().map(|it| it.fetches.clone()).collect();
    world.run(&mut now, 5);
    let after: Vec<_> = world.gateways.values().map(|it| it.fetches.clone()).collect();
    assert_eq!(before, after, "what is shared stays where it is");
}

#[test]
fn the_cameras_of_the_dead_go_to_the_living_when_its_lease_ends_and_not_before() {
    let (mut world, mut now) = (World::default(), Instant::now());
    world.name(0..9);
    for n in 0..3 {
        world.start(now, n, BTreeSet::new());
    }
    world.run(&mut now, 6);
    assert_eq!(world.loads(), [3; 3]);
    let died = now;
    world.gateways.remove(&0);
    while world.loads().iter().sum::<usize>() < 9 {
        assert!(now < died + TERM + 2 * RENEWED_EVERY);
        world.run(&mut now, 1);
    }
    // It had renewed it for the last time a moment before, and a moment has gone by since it was taken.
    assert!(now >= died + TERM, "its lease was over");
    let mut loads = world.loads();
    loads.sort_unstable();
    assert_eq!(loads, [4, 5], "as evenly as it goes");
}

#[test]
fn who_leaves_gives_all_away_at_once() {
    let (mut world, mut now) = (World::default(), Instant::now());
    world.name(0..6);
    for n in 0..3 {
        world.start(now, n, BTreeSet::new());
    }
    world.run(&mut now, 6);
    world.gateways.get_mut(&0).unwrap().fleet.leave();
    world.round(now, 0);
    assert_eq!(world.loads(), [0, 2, 2], "they have not looked yet");
    world.round(now, 1);
    world.round(now, 2);
    assert_eq!(world.loads(), [0, 3, 3]);
    for n in [1, 2] {
        world.gateways.get_mut(&n).unwrap().fleet.leave();
        world.round(now, n);
    }
    assert!(world.cameras.values().all(|(_, camera)| camera.holder.is_none()), "nobody is there");
}

#[test]
fn a_camera_of_a_command_line_is_for_those_who_know_it() {
    let (mut world, mut now) = (World::default(), Instant::now());
    let own = |cameras: std::ops::Range<usize>| cameras.map(key).collect::<BTreeSet<_>>();
    world.start(now, 0, own(0..4));
    world.start(now, 1, BTreeSet::new());
    world.run(&mut now, 6);
    assert_eq!(world.loads(), [4, 0]);
    world.start(now, 2, own(0..4));
    world.run(&mut now, 6);
    assert_eq!(world.loads(), [2, 0, 2], "of several who know them each gets some");
    world.gateways.remove(&0);
    world.run(&mut now, 8);
    assert_eq!(world.loads(), [0, 4]);
    world.gateways.remove(&2);
    world.run(&mut now, 8);
    assert!(world.cameras.is_empty(), "nobody knows where they are");
}

#[test]
fn a_new_camera_goes_to_who_has_the_fewest() {
    let (mut world, mut now) = (World::default(), Instant::now());
    world.name(0..1);
    world.start(now, 0, BTreeSet::new());
    world.start(now, 1, BTreeSet::new());
    world.run(&mut now, 6);
    let idle = world.gateways.iter().find(|(_, it)| it.fetches.is_empty()).map(|(n, _)| gateway(*n));
    for it in world.gateways.values() {
        assert_eq!(it.fleet.choose(now, &world.wanted(), &key(7), false), idle);
        assert_eq!(it.fleet.choose(now, &world.wanted(), &key(7), true), None, "nobody knows it");
    }
}

proptest! {
    /// Whoever comes, dies, hangs and leaves, and whenever each looks: no camera is fetched by two, and in the end each is by
    /// one.
    #[test]
    fn each_camera_is_fetched_by_one(
        events in prop::collection::vec((0_usize..5, 0_usize..4, 0_u64..400), 1..150),
    ) {
        let (mut world, mut now) = (World::default(), Instant::now());
        world.name(0..7);
        let mut started = 0;
        for (event, which, pause) in events {
            now += Duration::from_millis(pause);
            let there: Vec<usize> = world.gateways.keys().copied().collect();
            let which = (!there.is_empty()).then(|| there[which % there.len()]);
            match (event, which) {
                (0, _) if there.len() < 4 => {
                    world.start(now, started, BTreeSet::new());
                    started += 1;
                }
                (1, Some(n)) => drop(world.gateways.remove(&n)),
                (2, Some(n)) => {
                    let it = world.gateways.get_mut(&n).unwrap();
                    it.is_stuck = !it.is_stuck;
                }
                (3, Some(n)) => world.gateways.get_mut(&n).unwrap().fleet.leave(),
                (_, Some(n)) => world.round(now, n),
                _ => {}
            }
            // Each keeps to its own lease, also when it hangs.
            for it in world.gateways.values_mut().filter(|it| !it.term.is_held(now)) {
                it.fetches.clear();
            }
            for camera in world.cameras.keys() {
                let fetch = world.gateways.values().filter(|it| it.fetches.contains(camera)).count();
                // One that another has taken from it, it has stopped before; one that it gave away too.
                prop_assert!(fetch <= 1, "{camera:?} is fetched by {fetch}");
            }
        }
        world.start(now, started, BTreeSet::new());
        for it in world.gateways.values_mut() {
            it.is_stuck = false;
        }
        world.run(&mut now, 30);
        for (camera, (_, wanted)) in &world.cameras {
            let fetch: Vec<usize> =
                world.gateways.iter().filter(|(_, it)| it.fetches.contains(camera)).map(|(n, _)| *n).collect();
            prop_assert_eq!(fetch.len(), 1, "{:?} of {:?}", camera, &wanted);
            prop_assert!(!world.gateways[&fetch[0]].fleet.myself().is_leaving);
        }
    }
}
