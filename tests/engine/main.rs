//! The engine as a library, driven through its public face with small programs written for each test.

mod guests;
mod kit;
mod limits;
mod load;
mod run;
