//! Echo behind rough networks: for tests of clients in other languages, and for looking at one's own by hand.
//!
//! ```text
//! cargo run --features testing --example rough
//! new                        prints the address of a network without rules
//! 41234 1 refuse-upgrade 403     a rule for the network on that port, for each first of its occasions
//! 41234 3 drop-response          another one, for each third
//! 41234 clear                no more rules
//! 41234                      prints how often rules have acted there
//! ```
//!
//! What the rules mean stands at `throughline::testing::Rule`; times are in milliseconds.

#[path = "support/breaking.rs"]
mod breaking;

use std::collections::HashMap;
use std::time::Duration;

use throughline::testing::{Direction, Rough, Rule};
use throughline::{Hub, Server, Socket};
use tokio::io::{AsyncBufReadExt, BufReader};

async fn echo(mut socket: Socket, _hub: Hub) {
    while let Ok(message) = socket.recv().await {
        if socket.send(message.body).await.is_err() {
            break;
        }
    }
}

/// Reads a rule: its name, and what it needs.
fn rule<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<Rule> {
    let name = words.next()?;
    let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let number = first.parse::<u64>();
    let millis = || number.clone().ok().map(Duration::from_millis);
    let status = || first.parse::<u16>().ok();
    let way = match first {
        "up" => Some(Direction::Up),
        "down" => Some(Direction::Down),
        _ => None,
    };
    Some(match name {
        "refuse-upgrade" => Rule::RefuseUpgrade { status: status()? },
        "swallow-upgrade" => Rule::SwallowUpgrade,
        "strip-upgrade" => Rule::StripUpgrade,
        "carry-nothing" => Rule::CarryNothing,
        "one-way" => Rule::OneWay(way?),
        "cut-after" => Rule::CutAfter(millis()?),
        "cut-after-bytes" => Rule::CutAfterBytes { direction: way?, bytes: second.parse().ok()? },
        "hold-body" => Rule::HoldBody { bytes: number.ok(), head: second == "head" },
        "drop-response" => Rule::DropResponse,
        "replay-request" => Rule::ReplayRequest,
        "swallow-post" => Rule::SwallowPost,
        "close-idle" => Rule::CloseIdle(millis()?),
        "close-old" => Rule::CloseOld(millis()?),
        "delay" => Rule::Delay(millis()?),
        "throttle" => Rule::Throttle { bytes_per_second: number.ok()? },
        "one-at-a-time" => Rule::OneAtATime { notices: first == "notices" },
        "one-each" => Rule::OneEach { every: millis()?, status: second.parse().ok()? },
        "captive-portal" => Rule::CaptivePortal,
        "refuse" => Rule::Refuse { status: status()? },
        _ => return None,
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let upstream = breaking::serve(Server::builder().serve(echo)?).await?;
    println!("echo on {upstream}");
    let mut networks = HashMap::new();
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("new") => {
                let network = Rough::to(upstream).await?;
                println!("{}", network.address());
                networks.insert(network.address().port().to_string(), network);
            }
            Some(port) => {
                let network = networks.get(port).ok_or("no such network")?;
                match words.next() {
                    None => {}
                    Some("clear") => network.replace([]),
                    Some(nth) => {
                        network.every(nth.parse()?, rule(words).ok_or_else(|| format!("no rule: {line}"))?);
                    }
                }
                println!("{}", network.acted());
            }
            None => {}
        }
    }
    Ok(())
}
