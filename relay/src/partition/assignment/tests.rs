use super::*;
use talaria_proto::v1::OwnedPartition;

const COUNT: u16 = 64;

fn identity(relay: &str, run: u64) -> Identity {
    Identity { relay: relay.into(), run }
}

fn announcement(run: u64, owned: impl IntoIterator<Item = Partition>, leaving: bool) -> RelayAnnouncement {
    let owned = owned.into_iter().map(|partition| OwnedPartition {
        partition: u32::from(partition.number()),
        events_floor: 7 + u64::from(partition.number()),
        journal_floor: 9,
    });
    RelayAnnouncement { run, number: 1, leaving, owned: owned.collect(), prepared: Vec::new() }
}

/// One of the relay's own beats comes back.
fn beat(hearing: &mut Hearing) {
    let number = hearing.last_beat + 1;
    hearing.hear(&hearing.me.relay.clone(), &RelayAnnouncement { number, ..announcement(5, [], false) });
}

/// A relay that has listened long enough.
fn hearing(me: &str) -> Hearing {
    let mut hearing = Hearing::new(identity(me, 5), COUNT);
    for _ in 0..LISTENS {
        beat(&mut hearing);
    }
    hearing
}

fn all() -> BTreeSet<Partition> {
    Partition::all(COUNT).collect()
}

#[test]
fn a_relay_alone_takes_everything_once_it_has_listened() {
    let mut hearing = Hearing::new(identity("a", 5), COUNT);
    for came_back in 0..LISTENS {
        assert!(hearing.assign(&BTreeSet::new(), false).take.is_empty(), "{came_back}");
        beat(&mut hearing);
    }
    let assignment = hearing.assign(&BTreeSet::new(), false);
    assert_eq!((assignment.take, assignment.wanted), (all(), 64));
    assert!(hearing.assign(&all(), false).give.is_empty());
    assert_eq!(hearing.assign(&all(), true).give, all(), "it leaves");
}

/// Announcements may be older than the journal: the owner may have opened a partition without having announced it.
#[test]
fn an_owner_by_the_journal_is_overtaken_only_when_it_is_gone() {
    let mut hearing = hearing("a");
    let first = Partition::all(COUNT).next().unwrap();
    let (claims, since) = (|hearing: &Hearing| hearing.owner(first, "b", 7), hearing.beats());
    assert_eq!(claims(&hearing), OwnerStatus::Silent, "no announcement was heard");
    for came_back in 0..MISSED {
        assert!(!hearing.is_gone_since(since), "{came_back}");
        beat(&mut hearing);
    }
    assert!(hearing.is_gone_since(since));
    hearing.hear("b", &announcement(6, [], true));
    assert_eq!(claims(&hearing), OwnerStatus::Silent, "an earlier run has left");
    hearing.hear("b", &announcement(7, [], false));
    assert_eq!(claims(&hearing), OwnerStatus::Silent, "it has not announced the partition yet");
    hearing.hear("b", &announcement(7, [first], true));
    assert_eq!(claims(&hearing), OwnerStatus::Claims, "it finishes what it began");
    hearing.hear("b", &announcement(7, [], true));
    assert_eq!(claims(&hearing), OwnerStatus::Gone, "it has left");
    hearing.hear("b", &announcement(7, [first], false));
    (0..MISSED).for_each(|_| beat(&mut hearing));
    assert_eq!(claims(&hearing), OwnerStatus::Gone, "it is silent");
}

#[test]
fn a_claimed_partition_is_taken_once_its_owner_gives_it_up_or_is_gone() {
    let mut hearing = hearing("a");
    assert_eq!(hearing.hear("b", &announcement(1, all(), false)), News::Newcomer);
    let wanted = hearing.assign(&BTreeSet::new(), false);
    assert!(wanted.take.is_empty() && (20..44).contains(&wanted.wanted), "{wanted:?}");
    // It gives up half of them.
    let theirs: BTreeSet<Partition> = all().into_iter().skip(32).collect();
    assert_eq!(hearing.hear("b", &announcement(1, theirs, false)), News::Changed);
    let taken = hearing.assign(&BTreeSet::new(), false).take;
    assert!(!taken.is_empty() && taken.iter().all(|partition| partition.number() < 32));
    // It is silent from here on.
    for missed in 0..MISSED {
        assert!(hearing.assign(&taken, false).take.is_empty(), "{missed}");
        beat(&mut hearing);
        // An announcement between two beats is no beat.
        hearing.hear("a", &RelayAnnouncement { number: hearing.last_beat, ..announcement(5, [], false) });
    }
    assert_eq!(hearing.assign(&BTreeSet::new(), false).take, all());
}

#[test]
fn a_newcomer_is_given_its_share_and_nothing_else_moves() {
    let mut a = hearing("a");
    a.hear("b", &announcement(1, [], false));
    let alone = a.assign(&all(), false);
    a.hear("c", &announcement(1, [], false));
    let both = a.assign(&all(), false);
    assert!(alone.give.is_subset(&both.give), "nothing comes back");
    assert!((10..33).contains(&(64 - both.give.len())), "{}", both.give.len());
}

#[test]
fn a_partition_is_given_once_its_next_owner_has_read_its_journal() {
    let mut leaving = hearing("a");
    assert_eq!(leaving.assign(&all(), true).ready, all(), "there is no next owner");
    leaving.hear("b", &announcement(1, [], false));
    let assignment = leaving.assign(&all(), true);
    assert_eq!((assignment.give, assignment.ready.len()), (all(), 0));
    leaving.hear("b", &RelayAnnouncement { prepared: vec![3, 9, 64], ..announcement(1, [], false) });
    let ready = leaving.assign(&all(), true).ready;
    assert_eq!(ready.into_iter().map(Partition::number).collect::<Vec<_>>(), [3, 9]);

    let mut next = hearing("b");
    next.hear("a", &announcement(1, all(), true));
    let assignment = next.assign(&BTreeSet::new(), false);
    assert_eq!((assignment.take.len(), assignment.prepare), (0, all()));
    next.hear("a", &announcement(1, all().into_iter().skip(5), true));
    let assignment = next.assign(&BTreeSet::new(), false);
    assert_eq!((assignment.take.len(), assignment.prepare.len()), (5, 59));
    assert!(next.assign(&BTreeSet::new(), true).prepare.is_empty(), "it leaves, too");
}

#[test]
fn all_relays_agree_on_every_owner() {
    let names = ["a", "b", "c"];
    let wanted = names.map(|me| {
        let mut hearing = hearing(me);
        for name in names.iter().filter(|name| **name != me) {
            hearing.hear(name, &announcement(1, [], false));
        }
        hearing.assign(&BTreeSet::new(), false).take
    });
    assert_eq!(wanted.iter().map(BTreeSet::len).sum::<usize>(), 64);
    assert_eq!(wanted.into_iter().flatten().collect::<BTreeSet<_>>(), all());
}

#[test]
fn an_earlier_run_is_gone_at_once_and_a_later_one_of_ours_displaces_us() {
    let mut hearing = hearing("a");
    hearing.hear("b", &announcement(1, all(), false));
    assert_eq!(hearing.hear("b", &announcement(2, [], false)), News::Newcomer);
    assert_eq!(hearing.hear("b", &announcement(1, all(), false)), News::Nothing, "it was late");
    assert!(!hearing.assign(&BTreeSet::new(), false).take.is_empty());
    assert_eq!(hearing.hear("a", &announcement(4, all(), false)), News::Nothing);
    assert_eq!(hearing.hear("a", &announcement(6, [], false)), News::Displaced);
}

#[test]
fn the_owner_of_the_first_partition_trims_to_the_lowest_floor() {
    let own = |numbers: std::ops::Range<u16>| {
        let own = |partition: Partition| (partition, Floors { events: 100, journal: 50 });
        all().into_iter().filter(|partition| numbers.contains(&partition.number())).map(own).collect()
    };
    let mut hearing = hearing("a");
    assert_eq!(hearing.floors(&own(0..64)), Some(Floors { events: 100, journal: 50 }));
    assert_eq!(hearing.floors(&own(0..63)), None, "one has no owner");
    hearing.hear("b", &announcement(1, all().into_iter().skip(32), false));
    assert_eq!(hearing.floors(&own(0..32)), Some(Floors { events: 39, journal: 9 }));
    hearing.hear("b", &announcement(1, all().into_iter().take(32), false));
    assert_eq!(hearing.floors(&own(32..64)), None, "the other one does it");
}
