//! Bugs that can be planted, to show that the simulation finds them. Nothing but the simulation ever plants one.

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Planted {
    /// Batches are acknowledged before the disk has them.
    SkipLogSync,
    /// Segments and state are named by a manifest before the disk has them.
    SkipStoreSync,
    /// New names are used before the disk has them.
    SkipFolderSync,
    /// Two writes to the log change places.
    SwapLogWrites,
    /// A restart forgets which events were counted.
    ForgetIds,
    /// Late events are taken for counted and not added to their minute.
    DropCorrections,
    /// A restart forgets what the records before it caused and nobody was told of.
    ForgetOwed,
}
