//! The flags that set configuration keys, shared by every command that reads the configuration.

use std::path::PathBuf;

use crate::config::{self, ConfigError, Environment, Flag, Loaded};

#[derive(Clone, Debug, Default, clap::Args)]
pub struct SettingsArgs {
    /// The configuration file; deploy/tidewatch.toml documents every key [env: TIDEWATCH_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the log and the engine's state are kept
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<String>,
    /// The folder with streams/, views/ and rules/
    #[arg(long, value_name = "FOLDER")]
    queries_dir: Option<String>,
    /// Where gRPC is served
    #[arg(long, value_name = "ADDRESS")]
    grpc_address: Option<String>,
    /// Where HTTP is served
    #[arg(long, value_name = "ADDRESS")]
    http_address: Option<String>,
    /// Allows addresses that other machines can reach, without access control
    #[arg(long)]
    insecure: bool,
    /// Any other key, such as --set log.durability=os; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
}

impl SettingsArgs {
    /// Flags over variables over the file over the defaults.
    pub fn load(&self, environment: &Environment) -> Result<Loaded, ConfigError> {
        config::load(self.config.as_deref(), environment, &self.flags())
    }

    fn flags(&self) -> Vec<Flag> {
        let named = [
            ("--data-dir", "data_dir", &self.data_dir),
            ("--queries-dir", "queries_dir", &self.queries_dir),
            ("--grpc-address", "grpc.address", &self.grpc_address),
            ("--http-address", "http.address", &self.http_address),
        ];
        let flag =
            |flag: &str, key: &str, value: &str| Flag { flag: flag.into(), key: key.into(), value: value.into() };
        let mut flags: Vec<Flag> =
            self.set.iter().map(|(key, value)| flag(&format!("--set {key}"), key, value)).collect();
        flags.extend(named.iter().filter_map(|(name, key, value)| Some(flag(name, key, value.as_deref()?))));
        if self.insecure {
            flags.push(flag("--insecure", "insecure", "true"));
        }
        flags
    }
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
        None => Err(format!("`{text}` has no `=`; write for example log.durability=os")),
    }
}
