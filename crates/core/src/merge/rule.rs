//! The rules by which fields are decided, as they are recorded and told.

/// The rule by which a field was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum Rule {
    /// Never written; what an unknown number reads as.
    Unspecified = 0,
    /// Only one system has spoken of the field.
    Only = 1,
    /// The winner is the first system of the list of owners that has a value.
    Owner = 2,
    /// No owner has a value: nobody may set the field, and what stands is the latest of what was said.
    OwnerAbsent = 3,
    /// The latest write won.
    Latest = 4,
    /// At the same instant, the system with the higher priority won.
    Priority = 5,
    /// At the same instant and priority, the delivery's hash decided: arbitrary, but the same everywhere.
    Tie = 6,
    /// The state with the highest rank won.
    HighestState = 7,
    /// The highest version won.
    HighestVersion = 8,
    /// The greatest value won.
    Greatest = 9,
    /// The least value won.
    Least = 10,
    /// The value has the members of all claims.
    Union = 11,
    /// All systems say the same; what stands first is who said it first.
    Agreed = 12,
    /// Systems disagree and a person is to decide; what was said first stands until then.
    Contested = 13,
    /// A person has decided.
    Resolved = 14,
    /// A person has decided that this system is always preferred for this field.
    Preferred = 15,
    /// Nobody says anything of the field any more.
    Nobody = 16,
}

impl Rule {
    /// The rule in words.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Unspecified => "decided by a rule that this version does not know",
            Self::Only => "no other system has spoken of this field",
            Self::Owner => "the winner owns this field",
            Self::OwnerAbsent => "no owner of this field has a value yet; the latest of the others stands in",
            Self::Latest => "the latest write wins",
            Self::Priority => "written at the same instant; the system with the higher priority wins",
            Self::Tie => {
                "written at the same instant with equal priority; the delivery id decides, the same everywhere"
            }
            Self::HighestState => "the state that is further along wins",
            Self::HighestVersion => "the highest version wins",
            Self::Greatest => "the greatest value wins",
            Self::Least => "the least value wins",
            Self::Union => "the value has the members of all claims",
            Self::Agreed => "all systems say the same",
            Self::Contested => "systems disagree and a person is to decide; what was said first stands until then",
            Self::Resolved => "a person has decided",
            Self::Preferred => "a person has decided that this system is always preferred for this field",
            Self::Nobody => "nobody says anything of this field any more",
        }
    }

    /// A stable name for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unspecified => "unknown",
            Self::Only => "only",
            Self::Owner => "owner",
            Self::OwnerAbsent => "owner-absent",
            Self::Latest => "latest",
            Self::Priority => "priority",
            Self::Tie => "tie",
            Self::HighestState => "highest-state",
            Self::HighestVersion => "highest-version",
            Self::Greatest => "greatest",
            Self::Least => "least",
            Self::Union => "union",
            Self::Agreed => "agreed",
            Self::Contested => "contested",
            Self::Resolved => "resolved",
            Self::Preferred => "preferred",
            Self::Nobody => "nobody",
        }
    }
}
