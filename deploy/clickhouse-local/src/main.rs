//! `clickhouse-local`: makes the ClickHouse engine library serve ClickHouse's own HTTP interface.
//!
//! Developers and CI get the real engine without a server package: the library (npm
//! `@chdb/lib-linux-x64-gnu`) contains the main function of ClickHouse's local mode, which can listen.
//! One process, loopback only, users as in `config.xml`. Not for production: use a ClickHouse server there.
//!
//! Reading order: [`arguments`], [`folder`], [`config`], [`engine`], [`stop`].

mod arguments;
mod config;
mod engine;
mod folder;
mod http;
mod stop;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use crate::arguments::{Arguments, Passwords};
use crate::config::Config;
use crate::engine::Engine;
use crate::folder::Folder;

fn main() -> ExitCode {
    let Err(error) = run() else {
        return ExitCode::SUCCESS;
    };
    eprintln!("clickhouse-local: {error:#}");
    ExitCode::FAILURE
}

fn run() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let passwords = Passwords::from_environment()?;
    folder::check_port(arguments.http_port)?;
    let engine = Engine::load(&arguments.library)?;
    let folder = Folder::take(&arguments.data)?;
    Config::new(&folder.config_path(), &passwords).write(&folder.config_path())?;

    let stopper = stop::on_signal(arguments.http_port, passwords.launcher)?;
    let ended = engine.serve(&folder.rows(), arguments.http_port, &folder.config_path());
    if stopper.was_asked() {
        eprintln!("clickhouse-local: stopped");
        return Ok(());
    }
    ended.context("the engine ended by itself")?;
    anyhow::bail!("the engine ended by itself and gave no reason")
}
