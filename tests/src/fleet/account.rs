//! The account: every acknowledged event has one final state, the same in every relay.

use super::{Fleet, Ledger, Part, Sent, print};
use crate::{poll, until_within};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};
use talaria_proto::v1::{Delivery, DeliveryFilter, DeliveryState, GetSummaryRequest, ListDeliveriesRequest};

/// For the remaining deliveries after the last callback.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The sums.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    /// Acknowledged events.
    pub events: usize,
    /// Their deliveries, and those of events whose acknowledgement was lost.
    pub deliveries: usize,
    /// Requests beyond one for each delivery, under the same id.
    pub repeats: usize,
    /// The longest time from an acknowledgement to a first request.
    pub longest_wait: Duration,
}

impl Fleet {
    /// Waits until no delivery waits, and compares the sent callbacks, the requests to Hermes and the answers of each live relay.
    ///
    /// 1. Every acknowledged event has one delivery for each route.
    /// 2. Every delivery is DELIVERED, since Hermes always accepts.
    /// 3. Every live relay gives the same answer.
    /// 4. Hermes got each delivery under one id and generation, and no unknown one.
    /// 5. No attempt is hidden: the status has every request to Hermes.
    pub async fn account(&self, ledger: &Ledger, sent: &Sent) -> Account {
        let relays: Vec<&Part> = self.live_relays().collect();
        let mut answers = Vec::new();
        for relay in &relays {
            answers.push(self.answer(relay, sent).await);
        }
        // An event without acknowledgement may have become known after the first relays answered.
        let newest = answers.iter().map(BTreeMap::len).max().unwrap();
        for (relay, answer) in relays.iter().zip(&mut answers) {
            if answer.len() < newest {
                let what = format!("{} to know {newest} deliveries", relay.name());
                *answer = until_within(TIMEOUT, &what, async || {
                    Some(self.answer(relay, sent).await).filter(|answer| answer.len() >= newest)
                })
                .await;
            }
        }
        let deliveries = answers.pop().unwrap();
        for (relay, answer) in relays.iter().zip(&answers) {
            for (id, delivery) in &deliveries {
                let (one, last) = (relay.name(), relays.last().unwrap().name());
                assert_eq!(answer.get(id), Some(delivery), "{one} and {last} differ on {id}");
            }
        }
        self.compare(ledger, sent, &deliveries)
    }

    /// A relay's deliveries, once it knows every acknowledged event and no delivery waits.
    async fn answer(&self, relay: &Part, sent: &Sent) -> BTreeMap<String, Delivery> {
        let (mut events, mut backlog) = (0, 0);
        let mut status = relay.status().await;
        let answer = poll(TIMEOUT, async || {
            let summary = status.get_summary(GetSummaryRequest::default()).await.unwrap().into_inner();
            events = summary.tenants.iter().map(|tenant| tenant.events).sum();
            backlog = summary.routes.iter().map(|route| route.backlog).sum();
            if backlog > 0 || usize::try_from(events).unwrap() < sent.acknowledged.len() {
                return None;
            }
            let deliveries = list(relay).await;
            let planned = usize::try_from(events).unwrap() * self.routes;
            let is_complete = deliveries.len() >= planned
                && deliveries.values().all(|delivery| delivery.state() != DeliveryState::Waiting);
            is_complete.then_some(deliveries)
        })
        .await;
        match answer {
            Some(answer) => answer,
            None => self.give_up(relay, sent, events, backlog).await,
        }
    }

    async fn give_up(&self, relay: &Part, sent: &Sent, events: u64, backlog: u64) -> ! {
        let deliveries = list(relay).await;
        let known: HashSet<&str> = deliveries.values().map(|delivery| delivery.event_id.as_str()).collect();
        let missing: Vec<_> =
            sent.acknowledged.keys().filter(|event| !known.contains(event.as_str())).take(3).collect();
        let waiting: Vec<_> = deliveries
            .values()
            .filter(|delivery| delivery.state() == DeliveryState::Waiting)
            .take(3)
            .collect();
        panic!(
            "{} knows {events} events of {} acknowledged ones, without {missing:?}; {backlog} deliveries wait, among them \
             {waiting:#?}",
            relay.name(),
            sent.acknowledged.len()
        );
    }

    fn compare(&self, ledger: &Ledger, sent: &Sent, deliveries: &BTreeMap<String, Delivery>) -> Account {
        let mut routes: HashMap<&str, usize> = HashMap::new();
        for delivery in deliveries.values() {
            assert_eq!(delivery.state(), DeliveryState::Delivered, "{delivery:#?}");
            *routes.entry(&delivery.event_id).or_default() += 1;
        }
        for event in sent.acknowledged.keys() {
            let found = routes.get(event.as_str());
            assert_eq!(found, Some(&self.routes), "deliveries of {event}, which was acknowledged");
        }
        let lines = ledger.lines();
        for (id, line) in &lines {
            assert!(deliveries.contains_key(id), "Hermes saw {id}, of which the status knows nothing");
            assert_eq!(line.ids.len(), 1, "{id} was sent as {:?}", line.ids);
        }
        let mut account = Account {
            events: sent.acknowledged.len(),
            deliveries: deliveries.len(),
            repeats: 0,
            longest_wait: Duration::ZERO,
        };
        for (id, delivery) in deliveries {
            let line = lines.get(id).unwrap_or_else(|| panic!("Hermes never saw {delivery:#?}"));
            assert!(delivery.attempts >= line.requests, "Hermes saw {line:?} of {delivery:#?}");
            account.repeats += usize::try_from(line.requests).unwrap() - 1;
            if let Some(acknowledged) = sent.acknowledged.get(&delivery.event_id) {
                let wait = line.first.saturating_duration_since(*acknowledged);
                account.longest_wait = account.longest_wait.max(wait);
            }
        }
        let Sent { refused, unanswered, slowest, .. } = sent;
        print(&format!(
            "{account:?}; callbacks: {refused} answered 503, {unanswered} not answered, the slowest after {slowest:?}"
        ));
        account
    }
}

async fn list(relay: &Part) -> BTreeMap<String, Delivery> {
    let mut status = relay.status().await;
    let (mut all, mut page_token) = (BTreeMap::new(), String::new());
    loop {
        let filter = Some(DeliveryFilter::default());
        let request = ListDeliveriesRequest { filter, page_size: 1000, page_token };
        let page = status.list_deliveries(request).await.unwrap().into_inner();
        for delivery in page.deliveries {
            let twice = all.insert(delivery.id.clone(), delivery);
            assert!(twice.is_none(), "{} lists {twice:#?} twice", relay.name());
        }
        if page.next_page_token.is_empty() {
            return all;
        }
        page_token = page.next_page_token;
    }
}
