//! Grouping a closure into layers: what holds for every graph, and that the default is the best strategy there is.

mod better;
mod corpus;
mod measure;
mod properties;
