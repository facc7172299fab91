//! One list of scenarios on every transport, in both encodings, against real hyper over a real wire.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests say what they expect by panicking"
)]

mod bodies;
mod closing;
mod handshake;
mod liveness;
mod messages;
mod pressure;
mod replay;
mod resume;

#[path = "../support/pair.rs"]
mod pair;
#[path = "../support/mod.rs"]
mod support;

use throughline::TransportKind;
use throughline::frame::Encoding;

use pair::Lane;

/// Every scenario, as a test of its own, on one lane.
macro_rules! lane {
    ($name:ident: $kind:ident in $encoding:ident) => {
        mod $name {
            use super::*;

            const LANE: Lane = Lane { kind: TransportKind::$kind, encoding: Encoding::$encoding };

            lane! {
                messages: echoes_come_back_in_order, a_thousand_messages_pass_each_way, requests_are_answered_both_ways,
                    a_receipt_means_that_it_was_received;
                bodies: every_size_passes_both_ways, a_byte_too_many_is_refused_and_nothing_breaks;
                closing: the_servers_close_comes_after_all_messages, the_clients_close_comes_after_all_messages,
                    a_handler_that_returns_closes, a_panic_is_an_internal_error, both_ends_may_close_at_once;
                pressure: a_sender_waits_for_who_does_not_receive, a_slow_reader_gets_everything,
                    memory_is_bounded_by_bytes_too;
                liveness: heartbeats_keep_an_idle_session, half_open_both_ways_is_noticed, half_open_upwards_is_noticed,
                    half_open_downwards_is_noticed;
                resume: a_cut_loses_nothing, a_cut_by_the_server_loses_nothing, a_cut_wire_loses_nothing,
                    many_cuts_lose_nothing, what_was_written_and_never_arrived_comes_again,
                    a_server_that_restarts_has_forgotten, a_listener_that_restarts_changes_nothing;
                handshake: a_token_names_the_principal, a_wrong_token_is_refused, a_token_that_runs_out_is_replaced,
                    messages_may_be_sent_before_the_connection;
                replay: replayed_requests_change_nothing, a_replay_after_the_end_starts_nothing;
            }
        }
    };
    ($($room:ident: $($scenario:ident),+ $(,)?;)+) => {
        $($(
            #[tokio::test]
            async fn $scenario() {
                $room::$scenario(LANE).await;
            }
        )+)+
    };
}

lane!(websocket_json: WebSocket in Json);
lane!(websocket_binary: WebSocket in Binary);
lane!(event_stream: Sse in Json);
lane!(binary_stream: Sse in Binary);
lane!(polling_json: LongPolling in Json);
lane!(polling_binary: LongPolling in Binary);
