//! Every metric. Tests compare the catalogue with docs/metrics.md, the code, the processes, the dashboard and the alerts.
//!
//! Names are Prometheus': a unit at the end where there is one, `_total` for counters. Labels are bounded: their values
//! are known here, or are names from the configuration. Untrusted text never becomes a label.

use super::{
    Label, Metric,
    Of::{Every, Ingress, Nats, Relay},
    Values::Named,
    counter, gauge, histogram, known,
};

const TENANT: Label = Label { name: "tenant", values: Named };
const RESULTS: Label =
    known("result", "accepted quarantined unauthorized too_large too_slow broken limited shed unavailable");
const RESULT: &[Label] = &[RESULTS];
const TENANT_RESULT: &[Label] = &[TENANT, RESULTS];
const REASON: &[Label] = &[known(
    "reason",
    "unknown_tenant only_polls missing malformed stale mismatch misdirected no_secret wrong_path wrong_method \
     too_large too_slow broken bad_request http2 tls head_too_large head_too_slow",
)];
const REFUSAL: &[Label] =
    &[known("reason", "no_token unknown_token scope old_connection unguarded no_such_method handshake")];
const LIMIT: &[Label] = &[known(
    "limit",
    "connections connections_per_address bodies storing per_address refused_per_address per_tenant",
)];
const OUTCOME: &[Label] = &[known(
    "outcome",
    "accepted delivered duplicate ignored rate_limited route_fault failed answer_lost interrupted not_understood",
)];
const CALL: &[Label] =
    &[known("call", "models submit poll"), known("outcome", "ok refused unknown not_found denied failed")];
const FILE: &[Label] = &[known("outcome", "ok refused limited gone failed too_long broken_off left")];
const FETCHED: &[Label] = &[known("outcome", "kept failed refused")];
const STATE: &[Label] = &[TENANT, known("state", "delivered ignored parked ambiguous cancelled")];
const RUN: &[Label] = &[TENANT, known("outcome", "finished failed interrupted command")];
const JOB_OUTCOME: &[Label] = &[known("outcome", "made refused unknown")];
const POLL_OUTCOME: &[Label] = &[known("outcome", "running ended not_found denied failed")];
const JOB_END: &[Label] = &[known("state", "completed failed cancelled expired refused abandoned stopped")];
const NOTICE: &[Label] = &[
    known(
        "type",
        "talaria.route.shut talaria.route.open talaria.delivery.parked talaria.job.overdue \
         talaria.callback.quarantined talaria.configuration.refused",
    ),
    known("outcome", "told left_out"),
];
const STREAM: &[Label] = &[known("stream", "events journal")];
const ROUTE: &[Label] = &[TENANT, Label { name: "route", values: Named }];

/// Every metric.
pub const CATALOGUE: &[Metric] = &[
    counter(Ingress, "talaria_callbacks_total", TENANT_RESULT, "Callbacks, by tenant and result"),
    counter(Ingress, "talaria_callbacks_refused_total", REASON, "Refused requests, by reason"),
    histogram(Ingress, "talaria_callback_seconds", RESULT, "From a callback's head to its answer"),
    counter(
        Ingress,
        "talaria_callbacks_limited_total",
        LIMIT,
        "Callbacks and connections that were turned away by a limit, by limit",
    ),
    gauge(
        Ingress,
        "talaria_tenants_down",
        &[],
        "Tenants without any readable OpenRouter secret, whose callbacks are answered 503",
    ),
    gauge(Ingress, "talaria_ingress_connections", &[], "Open connections of clients"),
    gauge(Ingress, "talaria_ingress_body_bytes", &[], "Bytes of callbacks' bodies in memory"),
    gauge(Ingress, "talaria_ingress_storing", &[], "Callbacks that wait for the bus"),
    counter(
        Ingress,
        "talaria_openrouter_requests_total",
        CALL,
        "Requests to OpenRouter for jobs, by what is asked and the outcome",
    ),
    counter(
        Ingress,
        "talaria_media_fetches_total",
        FETCHED,
        "Tries to fetch the files of a job and to keep them, by outcome",
    ),
    counter(
        Ingress,
        "talaria_media_requests_total",
        FILE,
        "Requests for files of completed jobs by their links, by outcome",
    ),
    counter(
        Relay,
        "talaria_events_planned_total",
        &[known("routes", "some none")],
        "Events that were matched against their tenant's routes, by whether some route matched or none",
    ),
    counter(
        Relay,
        "talaria_events_repeated_total",
        &[known("body", "same other")],
        "Events that came again, by whether with the same body or another one (a conflict)",
    ),
    counter(
        Relay,
        "talaria_events_lost_total",
        &[],
        "Takeovers (not events) of partitions whose events were removed before they were planned",
    ),
    histogram(
        Relay,
        "talaria_first_attempt_seconds",
        &[],
        "From a callback to the first request to Hermes, once for each delivery",
    ),
    counter(Relay, "talaria_attempts_total", OUTCOME, "Requests to Hermes, by outcome"),
    histogram(Relay, "talaria_attempt_seconds", &[], "From a request to Hermes to its whole answer"),
    counter(
        Relay,
        "talaria_evidence_dropped_total",
        &[],
        "Attempts whose evidence was not kept, because too many waited or the file could not be written",
    ),
    counter(Relay, "talaria_deliveries_total", STATE, "Completed deliveries, by tenant and final state"),
    histogram(Relay, "talaria_delivery_seconds", &[], "From a callback to the final state of a delivery"),
    counter(Relay, "talaria_runs_total", RUN, "Reported runs of agents, by tenant and how they ended"),
    gauge(Relay, "talaria_deliveries_in_hand", &[], "Deliveries with an attempt under way"),
    counter(
        Relay,
        "talaria_pace_waits_total",
        &[],
        "Deliveries that were given a later slot by their route's pace",
    ),
    gauge(Relay, "talaria_backlog", ROUTE, "Waiting deliveries of the route, for whatever reason"),
    gauge(
        Relay,
        "talaria_backlog_due",
        ROUTE,
        "Deliveries of the route that could be sent now: due, and the route neither shut, paused nor down (up to 10000)",
    ),
    gauge(
        Relay,
        "talaria_oldest_waiting_seconds",
        ROUTE,
        "Age in seconds of the route's oldest waiting delivery, from its callback; 0 without one",
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
        "1 while a file that the route's requests need, such as its secret, cannot be read, otherwise 0",
    ),
    gauge(
        Relay,
        "talaria_events_unplanned",
        &[],
        "Events newer than the newest planned one; only the owner of partition 00 reports it",
    ),
    gauge(
        Relay,
        "talaria_stream_entries",
        STREAM,
        "Events and commits that are kept; only the owner of partition 00 reports it",
    ),
    gauge(
        Relay,
        "talaria_stream_bytes",
        STREAM,
        "Bytes of a stream on each NATS server; 0 on the embedded bus",
    ),
    gauge(
        Relay,
        "talaria_stream_max_bytes",
        STREAM,
        "Bytes at which a stream on NATS takes nothing more; 0 without a limit of its own",
    ),
    gauge(
        Relay,
        "talaria_stream_replicas_behind",
        STREAM,
        "Copies of a stream on NATS that are behind or away",
    ),
    gauge(Relay, "talaria_data_free_bytes", &[], "Bytes that can still be written into data_dir"),
    gauge(
        Relay,
        "talaria_last_backup_timestamp_seconds",
        &[],
        "When the last backup was made, in seconds since 1970; left out where there was none",
    ),
    gauge(
        Relay,
        "talaria_journal_lag_entries",
        &[],
        "Commits that the status view is behind in one partition, at most; commits of all partitions count",
    ),
    counter(
        Relay,
        "talaria_journal_lost_total",
        &[],
        "Losses of a partition because nothing can be appended to its journal any more",
    ),
    counter(Relay, "talaria_jobs_submitted_total", JOB_OUTCOME, "Submits of jobs to OpenRouter, by outcome"),
    counter(Relay, "talaria_job_polls_total", POLL_OUTCOME, "Polls of jobs at OpenRouter, by outcome"),
    counter(Relay, "talaria_jobs_ended_total", JOB_END, "Jobs that ended, by state"),
    counter(
        Relay,
        "talaria_notices_total",
        NOTICE,
        "Notices by type, and those that were left out because they were too many",
    ),
    gauge(
        Relay,
        "talaria_jobs_open",
        &[known("state", "submitting running unknown")],
        "Jobs in partitions of this relay that have not ended, by state",
    ),
    counter(
        Relay,
        "talaria_cost_microdollars_total",
        &[],
        "What OpenRouter said that the jobs of planned events cost, in millionths of a US dollar",
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
        "gRPC requests and connections that were refused, by reason",
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
        "Log lines that were left out because standard error was not read",
    ),
    gauge(Every, "talaria_config_valid", &[], "1 if the file was loaded, 0 if it cannot be used"),
    gauge(Every, "talaria_config_restart_needed", &[], "1 if the file has changes that need a restart"),
    gauge(
        Every,
        "talaria_config_loaded_timestamp_seconds",
        &[],
        "When the configuration in force was read, in seconds since 1970",
    ),
    counter(
        Every,
        "talaria_config_reloads_total",
        &[known("result", "applied refused")],
        "Changes of the file, by result",
    ),
    gauge(
        Every,
        "talaria_certificate_expiry_timestamp_seconds",
        &[Label { name: "use", values: Named }, Label { name: "file", values: Named }],
        "When the first certificate in a file expires, in seconds since 1970",
    ),
    gauge(Every, "talaria_ready", &[], "1 while /readyz answers 200, otherwise 0"),
    gauge(Nats, "talaria_nats_connected", &[], "1 while there is a connection to NATS, otherwise 0"),
    counter(Nats, "talaria_nats_disconnects_total", &[], "Connections to NATS that were lost"),
    counter(Every, "talaria_spans_total", &[known("result", "exported failed")], "Spans, by export result"),
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
