//! Docker as a backend, on a real daemon with the images of `scripts/test-images.sh`. Where no daemon answers the tests say
//! so and pass; with `CASEMATE_TEST_DOCKER` set they fail.

mod away;
mod hardening;
mod images;
mod kit;
mod lives;
mod processes;
