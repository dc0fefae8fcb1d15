//! `cluster`: a private cluster to try things with, until Ctrl-C.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use crate::fail::{Fail, Result};
use crate::net::token::Mint;
use crate::stack::child::Server;
use crate::stack::node::Node;
use crate::stack::options::StackOptions;
use crate::stack::{Setup, Stack, Store};
use crate::sys;

#[derive(Args, Debug)]
pub struct Options {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16))]
    nodes: u8,
    /// Where rooms are kept; several nodes need postgres
    #[arg(long, value_enum, default_value = "postgres")]
    store: Store,
    /// Leave data and logs where they are at the end, and say where
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    stack: StackOptions,
}

pub fn run(options: &Options) -> Result<()> {
    sys::watch_for_stop()?;
    let setup = Setup {
        programs: options.stack.programs()?,
        nodes: options.nodes.into(),
        store: options.store,
        settings: options.stack.settings.clone(),
        env: options.stack.env.clone(),
        proxied: false,
        spare: 0,
    };
    let mut stack = Stack::start(&setup, &mut |what| eprintln!("{what}"))?;
    if options.keep {
        stack.keep_files();
    }
    print!("{}", description(&stack));
    println!("\nCtrl-C stops it.");
    let ended = watch(&mut stack);
    let files = stack.files().to_owned();
    drop(stack);
    if options.keep {
        println!("data and logs: {}", files.display());
    }
    ended
}

/// Addresses, tokens and a first request to copy.
fn description(stack: &Stack) -> String {
    let target = stack.target();
    let mint = Mint::new(&target.secret);
    let alice = mint.token("alice");
    let mut text = format!("{}\n\n", target.name);
    for node in &stack.nodes {
        let (public, admin) = (node.public, node.admin);
        text += &format!("{:8} ws://{public}/ws  http://{public}  admin http://{admin}\n", node.name);
    }
    if let Some(postgres) = &stack.postgres {
        text += &format!("store    {}\n", postgres.url_at(postgres.port()));
    }
    if let Some(redis) = &stack.redis {
        text += &format!("bus      {}\n", redis.url_at(redis.port()));
    }
    text += &format!("files    {}\n", stack.files().display());
    text += &format!("\nalice, for a day:\n{alice}\nroot, with the role admin:\n{}\n", mint.admin_token("root"));
    if let Some(server) = target.servers.first() {
        text += &format!(
            "\ncurl -H 'Authorization: Bearer {alice}' http://{server}/api/v1/me\n\
             websocat -H 'Authorization: Bearer {alice}' ws://{server}/ws   # then: {{\"type\":\"hello\"}}\n"
        );
        let list = |of: fn(&Node) -> SocketAddr| {
            stack.nodes.iter().map(|node| of(node).to_string()).collect::<Vec<_>>().join(",")
        };
        text += &format!(
            "ROUNDTABLE__AUTH__JWT__SECRET={} roundtable-loadtest run mixed --target {} --target-admin {}\n",
            target.secret,
            list(|node| node.public),
            list(|node| node.admin)
        );
    }
    text
}

/// Until somebody stops it. A node that dies is told; the end of the last one, or of what they stand on, ends it.
fn watch(stack: &mut Stack) -> Result<()> {
    let mut alive = vec![true; stack.nodes.len()];
    while !sys::stopped() {
        for (node, alive) in stack.nodes.iter_mut().zip(&mut alive) {
            if let Some(status) = node.ended().filter(|_| *alive) {
                *alive = false;
                eprintln!("{} ended with {status}\n{}", node.name, node.last_lines());
            }
        }
        if !alive.contains(&true) {
            return Err(Fail::Broken("no node runs any more".into()));
        }
        let postgres = stack.postgres.as_mut().is_some_and(|postgres| postgres.died());
        let redis = stack.redis.as_mut().is_some_and(|redis| redis.died());
        let dead = [
            stack.postgres.as_mut().filter(|_| postgres).and_then(Server::child),
            stack.redis.as_mut().filter(|_| redis).and_then(Server::child),
        ];
        if let Some(child) = dead.into_iter().flatten().next() {
            return Err(Fail::Setup(format!("{} ended\n{}", child.name(), child.last_lines())));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    if alive.contains(&false) {
        return Err(Fail::Broken("a node ended that nobody had stopped".into()));
    }
    Ok(())
}
