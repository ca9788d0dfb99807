//! Every metric. Tests compare the catalogue with docs/metrics.md, the code, the processes, the dashboard and the alerts.
//!
//! Names are Prometheus': a unit at the end where there is one, `_total` for counters. Labels are bounded: their values
//! are known here, or are names out of the configuration. Untrusted text never becomes a label.

use super::{
    Label, Metric,
    Of::{Every, Ingress, Nats, Relay},
    Values::{Known, Named},
    counter, gauge, histogram,
};

const RESULT: &[Label] = &[Label {
    name: "result",
    values: Known(&[
        "accepted",
        "quarantined",
        "unauthorized",
        "too_large",
        "too_slow",
        "broken",
        "limited",
        "shed",
        "unavailable",
    ]),
}];
const REASON: &[Label] = &[Label {
    name: "reason",
    values: Known(&[
        "unknown_tenant",
        "missing",
        "malformed",
        "stale",
        "mismatch",
        "misdirected",
        "no_secret",
        "wrong_path",
        "wrong_method",
        "too_large",
        "too_slow",
        "broken",
        "bad_request",
        "http2",
        "tls",
        "head_too_large",
        "head_too_slow",
    ]),
}];
const REFUSAL: &[Label] = &[Label {
    name: "reason",
    values: Known(&[
        "no_token",
        "unknown_token",
        "scope",
        "old_connection",
        "unguarded",
        "no_such_method",
        "handshake",
    ]),
}];
const LIMIT: &[Label] = &[Label {
    name: "limit",
    values: Known(&[
        "connections",
        "connections_per_address",
        "bodies",
        "storing",
        "per_address",
        "refused_per_address",
        "per_tenant",
    ]),
}];
const OUTCOME: &[Label] = &[Label {
    name: "outcome",
    values: Known(&[
        "accepted",
        "delivered",
        "duplicate",
        "ignored",
        "rate_limited",
        "route_fault",
        "failed",
        "answer_lost",
        "interrupted",
        "not_understood",
    ]),
}];
const STATE: &[Label] =
    &[Label { name: "state", values: Known(&["delivered", "ignored", "parked", "ambiguous", "cancelled"]) }];
const ROUTE: &[Label] = &[Label { name: "tenant", values: Named }, Label { name: "route", values: Named }];

/// Every metric.
pub const CATALOGUE: &[Metric] = &[
    counter(Ingress, "talaria_callbacks_total", RESULT, "Callbacks, by result"),
    counter(Ingress, "talaria_callbacks_refused_total", REASON, "Refused requests, by reason"),
    histogram(Ingress, "talaria_callback_seconds", RESULT, "From a callback's head to its answer"),
    counter(
        Ingress,
        "talaria_callbacks_limited_total",
        LIMIT,
        "Callbacks and connections that were turned away by a limit, by which",
    ),
    gauge(
        Ingress,
        "talaria_tenants_down",
        &[],
        "Tenants none of whose OpenRouter secrets can be read, so that their callbacks are answered 503",
    ),
    gauge(Ingress, "talaria_ingress_connections", &[], "Connections of senders that are open"),
    gauge(
        Ingress,
        "talaria_ingress_body_bytes",
        &[],
        "Bytes of bodies that are held while they arrive and are stored",
    ),
    gauge(Ingress, "talaria_ingress_storing", &[], "Callbacks that wait for the bus"),
    counter(
        Relay,
        "talaria_events_planned_total",
        &[Label { name: "routes", values: Known(&["some", "none"]) }],
        "Events that were matched against their tenant's routes, by whether a route wanted them",
    ),
    counter(
        Relay,
        "talaria_events_repeated_total",
        &[Label { name: "body", values: Known(&["same", "other"]) }],
        "Events that came again, by whether with the same body or with another one",
    ),
    counter(
        Relay,
        "talaria_events_lost_total",
        &[],
        "Takeovers of partitions whose events were removed before they were planned",
    ),
    histogram(
        Relay,
        "talaria_first_attempt_seconds",
        &[],
        "From a callback to the first request to Hermes, once for each delivery",
    ),
    counter(Relay, "talaria_attempts_total", OUTCOME, "Requests to Hermes, by outcome"),
    histogram(Relay, "talaria_attempt_seconds", &[], "From a request to Hermes to its whole answer"),
    counter(Relay, "talaria_deliveries_total", STATE, "Deliveries that came to their end, by how"),
    histogram(Relay, "talaria_delivery_seconds", &[], "From a callback to the end of its delivery"),
    gauge(Relay, "talaria_deliveries_in_hand", &[], "Deliveries that are being worked on"),
    counter(
        Relay,
        "talaria_pace_waits_total",
        &[],
        "Deliveries that were given a later slot by their route's pace",
    ),
    gauge(Relay, "talaria_backlog", ROUTE, "Deliveries of the route that wait, for whatever reason"),
    gauge(
        Relay,
        "talaria_backlog_due",
        ROUTE,
        "Deliveries of the route that could be sent now: due, and the route neither shut nor paused (up to 10000)",
    ),
    gauge(
        Relay,
        "talaria_oldest_waiting_seconds",
        ROUTE,
        "Since the callback of the route's oldest delivery that waits; 0 where none does",
    ),
    gauge(Relay, "talaria_route_shut", ROUTE, "1 while the route's breaker holds it shut, otherwise 0"),
    gauge(
        Relay,
        "talaria_route_paused",
        ROUTE,
        "1 while an operator pauses the route or its tenant, otherwise 0",
    ),
    gauge(
        Relay,
        "talaria_route_down",
        ROUTE,
        "1 while something that the route's requests need cannot be read, such as its secret, otherwise 0",
    ),
    gauge(
        Relay,
        "talaria_events_unplanned",
        &[],
        "Events that were stored behind the last one that was matched against routes in any partition; of the owner of partition 00",
    ),
    gauge(Relay, "talaria_journal_lag_entries", &[], "Commits of the journal that the status view is behind"),
    counter(
        Relay,
        "talaria_journal_lost_total",
        &[],
        "Partitions that this relay lost because nothing can be appended to their journal any more",
    ),
    gauge(Relay, "talaria_replay_jobs", &[], "Replay jobs that run in partitions of this relay"),
    gauge(
        Relay,
        "talaria_partitions_owned",
        &[],
        "Partitions that this relay owns, of 64; of 1 on the embedded bus",
    ),
    counter(
        Relay,
        "talaria_grpc_refused_total",
        REFUSAL,
        "gRPC requests and connections that were refused, by why",
    ),
    gauge(
        Every,
        "talaria_config_generation",
        &[],
        "How many configurations the process has had, this one included",
    ),
    counter(
        Every,
        "talaria_log_lines_left_out_total",
        &[],
        "lines of the log that were left out because standard error was not read",
    ),
    gauge(
        Every,
        "talaria_config_valid",
        &[],
        "1 while the file is the configuration that runs, 0 while it cannot be used",
    ),
    gauge(
        Every,
        "talaria_config_restart_needed",
        &[],
        "1 while the file says something that only a restart brings about",
    ),
    gauge(
        Every,
        "talaria_config_loaded_timestamp_seconds",
        &[],
        "When the configuration that runs was read, in seconds since 1970",
    ),
    counter(
        Every,
        "talaria_config_reloads_total",
        &[Label { name: "result", values: Known(&["applied", "refused"]) }],
        "Changes of the file, by whether they were taken",
    ),
    gauge(Every, "talaria_ready", &[], "1 while /readyz answers 200, otherwise 0"),
    gauge(Nats, "talaria_nats_connected", &[], "1 while there is a connection to NATS, otherwise 0"),
    counter(Nats, "talaria_nats_disconnects_total", &[], "Connections to NATS that were lost"),
    counter(
        Every,
        "talaria_spans_total",
        &[Label { name: "result", values: Known(&["exported", "failed"]) }],
        "Spans that were handed to the collector of traces, or could not be",
    ),
    gauge(
        Every,
        "talaria_build_info",
        &[Label { name: "version", values: Named }],
        "1, with the version that runs",
    ),
    counter(Every, "process_cpu_seconds_total", &[], "Time that the process has spent on processors"),
    gauge(Every, "process_resident_memory_bytes", &[], "Memory that the process has in use"),
    gauge(Every, "process_virtual_memory_bytes", &[], "Memory that the process has reserved"),
    gauge(Every, "process_virtual_memory_max_bytes", &[], "Memory that the process may reserve"),
    gauge(Every, "process_open_fds", &[], "Files and connections that the process has open"),
    gauge(Every, "process_max_fds", &[], "Files and connections that the process may have open"),
    gauge(Every, "process_start_time_seconds", &[], "When the process was started, in seconds since 1970"),
    gauge(Every, "process_threads", &[], "Threads of the process"),
];
