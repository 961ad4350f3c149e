//! `annals import posts DIR --site D`: Markdown files become posts of a site.
//!
//! A post is recognised again by site, kind and slug: a second run creates nothing, and changes only what differs.

mod addresses;
mod date;
mod files;
mod front_matter;
mod post;
mod send;
mod slug;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use futures::StreamExt as _;

use self::{
    files::File,
    post::Post,
    send::{Done, Sender},
};
use crate::{
    client::{Client, ClientError, Connection},
    progress::Progress,
};

/// Import a folder of Markdown files as posts.
///
/// Front matter is TOML between `+++` lines or YAML between `---` lines. Title, date (`date`, or a `path` or file
/// name that begins with one), slug, tags, summary or description, language, featured and draft are understood;
/// every other field is kept in the metadata, such as authors and aliases. A folder with an `index.md` is one post.
/// It may be interrupted and repeated: posts are recognised by their slug, and changed only where the file differs.
/// What is published is neither unpublished nor dated anew: where a file says otherwise, that is counted, and `-v`
/// names it. Symbolic links are passed over.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Posts {
    /// The folder to read, with all folders below it.
    dir: PathBuf,
    /// The domain of the site that the posts are of.
    #[arg(long)]
    site: String,
    /// How many posts are sent at once.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    at_once: u16,
    /// Name the posts whose date or draft is otherwise in the file, and the links that were passed over.
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    connection: Connection,
}

/// What a folder holds; each with its path.
struct Read {
    posts: Vec<(String, Post)>,
    /// What could not be read, with its reason.
    refused: Vec<(String, String)>,
    /// Symbolic links, which were passed over.
    links: Vec<String>,
}

impl Posts {
    pub(crate) async fn run(mut self) -> anyhow::Result<ExitCode> {
        let client = Client::new(&self.connection, super::PATIENCE)?;
        let Read {
            posts,
            mut refused,
            links,
        } = self.read()?;
        if posts.is_empty() && refused.is_empty() {
            anyhow::bail!("{} holds no Markdown files (.md, .markdown)", self.dir.display());
        }
        self.site = super::expect_site(&client, &self.site).await?;

        let slugs = posts.iter().map(|(_, post)| post.slug.clone()).collect();
        let sender = Sender::new(client, self.site.clone(), slugs);
        let interruption = super::interruption();
        let stop = interruption.clone();
        let progress = Progress::new("posts", posts.len() as u64, 0);
        let total = posts.len();
        let mut results = futures::stream::iter(posts)
            .take_until(Box::pin(interruption.clone().cancelled_owned()))
            .map(|(path, post)| {
                let sender = &sender;
                async move { (path, sender.send(&post).await) }
            })
            .buffer_unordered(self.at_once.into());

        let mut done: BTreeMap<Done, usize> = BTreeMap::new();
        let mut otherwise = Vec::new();
        let mut fatal = None;
        while let Some((path, result)) = results.next().await {
            progress.add(1);
            match result {
                Ok(outcome) => {
                    *done.entry(outcome.done).or_default() += 1;
                    otherwise.extend(outcome.otherwise.map(|what| (path, what)));
                }
                Err(error) if is_fatal(&error) => {
                    fatal.get_or_insert(error);
                    stop.cancel();
                }
                Err(error) => refused.push((path, error.to_string())),
            }
        }
        drop(results);
        progress.finish();
        if let Some(error) = fatal {
            return Err(error.into());
        }
        let interrupted = interruption.is_cancelled() && done.values().sum::<usize>() < total;
        report(&done, refused.len(), interrupted);
        refused.sort();
        for (path, reason) in &refused {
            println!("  {path}: {reason}");
        }
        otherwise.sort();
        let named = if self.verbose { "" } else { " (-v names them)" };
        if !otherwise.is_empty() {
            let count = otherwise.len();
            println!("{count} have another date or status here than in their file: not changed{named}");
        }
        if !links.is_empty() {
            println!("{} symbolic links passed over{named}", links.len());
        }
        if self.verbose {
            for (path, what) in &otherwise {
                println!("  {path}: {what}");
            }
            for path in &links {
                println!("  {path}: a symbolic link");
            }
        }
        Ok(super::exit_code(interrupted, refused.len()))
    }

    /// Reads every file first, so that two files with one slug are told apart before anything is sent.
    fn read(&self) -> anyhow::Result<Read> {
        let found = files::find(&self.dir).with_context(|| format!("cannot read {}", self.dir.display()))?;
        let mut refused: Vec<_> = found
            .unreadable
            .into_iter()
            .map(|(path, error)| (path, error.to_string()))
            .collect();
        let mut posts = Vec::new();
        let mut owners: HashMap<String, String> = HashMap::new();
        for File { place, path } in found.files {
            let post = match std::fs::read(&place) {
                Ok(bytes) => Post::read(&path, &bytes).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match post {
                Ok(post) => match owners.get(&post.slug) {
                    Some(owner) => {
                        refused.push((path, format!("its slug {:?} is that of {owner}", post.slug)))
                    }
                    None => {
                        owners.insert(post.slug.clone(), path.clone());
                        posts.push((path, post));
                    }
                },
                Err(reason) => refused.push((path, reason)),
            }
        }
        Ok(Read {
            posts,
            refused,
            links: found.links,
        })
    }
}

/// Whether every further post would fail for the same reason.
fn is_fatal(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. }
        | ClientError::Unanswered { .. }
        | ClientError::Https(_)
        | ClientError::NoKey
        | ClientError::NotJson { .. } => true,
        ClientError::Problem(problem) => matches!(problem.status, 401 | 403 | 429 | 503),
    }
}

fn report(done: &BTreeMap<Done, usize>, refused: usize, interrupted: bool) {
    let count = |outcome| done.get(&outcome).copied().unwrap_or(0);
    println!(
        "{} created, {} changed, {} unchanged, {refused} not imported{}",
        count(Done::Created),
        count(Done::Changed),
        count(Done::Unchanged),
        if interrupted {
            "; interrupted, run it again to go on"
        } else {
            ""
        },
    );
}
