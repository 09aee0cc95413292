//! What layers of a model do with data: which tokens each expert gets, and how far hidden states are from those of another
//! model. Both are told by a forward pass ([`Trace`](masformer_core::Trace)), whatever the family of the model.

mod cka;
pub mod distances;
pub mod record;
pub mod routes;

#[cfg(test)]
mod testing;
