//! `pulsegate user`: who may log in.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use comfy_table::Table;
use comfy_table::presets::NOTHING;

use crate::users::{self, Listed, LoginPolicy, PasswordSource, Role};

/// The arguments of `pulsegate user`.
#[derive(Args, Debug)]
pub struct UserArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: UserCommand,
}

/// What `pulsegate user` can do.
#[derive(Subcommand, Debug)]
pub enum UserCommand {
    /// Add a user; the file is created if it is missing
    Add(AddArgs),
    /// Remove a user; sessions that are logged in stay
    Remove {
        /// Name of the user (case-sensitive)
        name: String,
        /// The users file
        #[arg(long, value_name = "FILE")]
        users: PathBuf,
    },
    /// List the users
    List {
        /// The users file
        #[arg(long, value_name = "FILE")]
        users: PathBuf,
    },
}

/// The arguments of `pulsegate user add`.
#[derive(Args, Debug)]
pub struct AddArgs {
    /// Name of the user: at most 64 bytes, case-sensitive
    pub name: String,
    /// The users file
    #[arg(long, value_name = "FILE")]
    pub users: PathBuf,
    /// What the user may see
    #[arg(long, value_enum, default_value_t = RoleArg::Device)]
    pub role: RoleArg,
    /// What happens when the user logs in again while logged in
    #[arg(long, value_enum, default_value_t = LoginArg::Allow)]
    pub login: LoginArg,
    /// Read the password from the first line of standard input instead of asking for it
    #[arg(long, conflicts_with = "generate")]
    pub password_stdin: bool,
    /// Make a secret for a device and print it once; only its hash is kept
    #[arg(long)]
    pub generate: bool,
}

/// The roles, as words on the command line.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum RoleArg {
    /// Its own upload directory, and no list of clients
    Device,
    /// The list of clients and all files
    Operator,
}

/// The login policies, as words on the command line.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub enum LoginArg {
    /// Both sessions live
    Allow,
    /// The newer session wins
    Replace,
    /// The newer login is refused
    Refuse,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Device => Self::Device,
            RoleArg::Operator => Self::Operator,
        }
    }
}

impl From<LoginArg> for LoginPolicy {
    fn from(login: LoginArg) -> Self {
        match login {
            LoginArg::Allow => Self::Allow,
            LoginArg::Replace => Self::Replace,
            LoginArg::Refuse => Self::Refuse,
        }
    }
}

/// Does what the arguments say. What a script may want to read, a generated secret or the list, goes to standard
/// output; what is meant for people goes to standard error.
///
/// # Errors
///
/// As [`users::add`], [`users::remove`] and [`users::list`]; the message is meant to be shown.
pub fn run(args: UserArgs) -> anyhow::Result<()> {
    match args.command {
        UserCommand::Add(args) => add(&args),
        UserCommand::Remove { name, users } => {
            users::remove(&users, &name)?;
            eprintln!("removed {name:?} from {}", users.display());
            Ok(())
        }
        UserCommand::List { users } => {
            println!("{}", table(&users::list(&users)?));
            Ok(())
        }
    }
}

fn add(args: &AddArgs) -> anyhow::Result<()> {
    let source = if args.generate {
        PasswordSource::Generate
    } else if args.password_stdin {
        PasswordSource::Stdin
    } else {
        PasswordSource::Prompt
    };
    let (role, login) = (args.role.into(), args.login.into());
    let added = users::add(&args.users, &args.name, role, login, source)?;
    let file = args.users.display();
    eprintln!("added {} {:?} to {file}", added.user.role, added.user.name);
    if let Some(secret) = added.secret {
        eprintln!("its password, shown this once (the device sends the MD5 of it):");
        println!("{}", *secret);
    }
    Ok(())
}

fn table(listed: &[Listed]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["Name", "Role", "Login again", "Password"]);
    for Listed { user, scheme } in listed {
        table.add_row([user.name.as_str(), user.role.as_str(), user.login_policy.as_str(), scheme]);
    }
    table
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches, Parser};

    use super::*;

    #[derive(Parser, Debug)]
    struct Cli {
        #[command(flatten)]
        args: UserArgs,
    }

    fn parse(line: &str) -> Result<UserArgs, clap::Error> {
        let matches = Cli::command().try_get_matches_from(line.split(' '))?;
        Cli::from_arg_matches(&matches).map(|cli| cli.args)
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn whoever_is_added_without_a_role_is_a_device() {
        let args = parse("user add m1 --users u.toml").unwrap();
        let UserCommand::Add(add) = args.command else {
            panic!("{args:?}");
        };
        assert_eq!(Role::from(add.role), Role::Device);
        assert_eq!(LoginPolicy::from(add.login), LoginPolicy::Allow);
        assert!(!add.generate && !add.password_stdin);
    }

    #[test]
    fn wrong_lines_are_refused() {
        for line in [
            "user add m1",
            "user add --users u.toml",
            "user add m1 --users u.toml --role admin",
            "user add m1 --users u.toml --login twice",
            "user add m1 --users u.toml --generate --password-stdin",
            "user remove m1",
            "user list",
            "user",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn add_list_remove() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("u.toml");
        let file = file.to_str().unwrap();
        run(parse(&format!("user add m1 --users {file} --login replace --generate")).unwrap())
            .unwrap();
        let listed = users::list(file.as_ref()).unwrap();
        let text = table(&listed).to_string();
        for word in ["m1", "device", "replace", "generated secret"] {
            assert!(text.contains(word), "{text}");
        }
        run(parse(&format!("user list --users {file}")).unwrap()).unwrap();
        run(parse(&format!("user remove m1 --users {file}")).unwrap()).unwrap();
        assert!(users::list(file.as_ref()).unwrap().is_empty());
    }
}
