//! Who is in a room, by session and in order.
//!
//! What is said goes to all in the order in which they came. That is about the order in which their sessions were made, and so
//! the order in which these, their tasks and their sockets lie in memory. A thousand of them are not in any cache by the next
//! word: to visit them in the order of a hash would miss at every step what a neighbour has just brought in.

use std::collections::HashMap;

use crate::frame::SessionId;

/// A map by session, visited in the order of insertion. Where one was taken out, the last stands in its place.
#[derive(Debug)]
pub(super) struct Roster<T> {
    entries: Vec<(SessionId, T)>,
    /// Where in `entries` each stands.
    places: HashMap<SessionId, usize>,
}

impl<T> Roster<T> {
    pub(super) fn new() -> Self {
        Self { entries: Vec::new(), places: HashMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn contains(&self, id: SessionId) -> bool {
        self.places.contains_key(&id)
    }

    pub(super) fn get(&self, id: SessionId) -> Option<&T> {
        self.entries.get(*self.places.get(&id)?).map(|(_, entry)| entry)
    }

    pub(super) fn get_mut(&mut self, id: SessionId) -> Option<&mut T> {
        self.entries.get_mut(*self.places.get(&id)?).map(|(_, entry)| entry)
    }

    /// Puts one in, in the place of the one that was there.
    pub(super) fn insert(&mut self, id: SessionId, entry: T) {
        match self.get_mut(id) {
            Some(known) => *known = entry,
            None => {
                self.places.insert(id, self.entries.len());
                self.entries.push((id, entry));
            }
        }
    }

    /// Takes one out. Room that most of those who are left do not need is given back.
    pub(super) fn remove(&mut self, id: SessionId) -> Option<T> {
        let place = self.places.remove(&id)?;
        let (_, entry) = self.entries.swap_remove(place);
        if let Some((moved, _)) = self.entries.get(place) {
            self.places.insert(*moved, place);
        }
        if self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.len() * 2);
            self.places.shrink_to(self.entries.len() * 2);
        }
        Some(entry)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionId, &T)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (SessionId, &mut T)> {
        self.entries.iter_mut().map(|(id, entry)| (*id, entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> SessionId {
        SessionId::from_bytes([number; 16])
    }

    fn all(roster: &Roster<u8>) -> Vec<u8> {
        roster.iter().map(|(of, entry)| if of == id(*entry) { *entry } else { u8::MAX }).collect()
    }

    #[test]
    fn all_are_visited_in_the_order_in_which_they_came() {
        let mut roster = Roster::new();
        let order = [7, 3, 200, 1, 90];
        order.iter().for_each(|number| roster.insert(id(*number), *number));
        roster.insert(id(3), 3);
        assert_eq!(all(&roster), order, "who comes again keeps the place");
    }

    #[test]
    fn each_is_found_whoever_left_before() {
        let mut roster = Roster::new();
        (0..64).for_each(|number| roster.insert(id(number), number));
        for (gone, number) in (0_u8..64).map(|step| step.wrapping_mul(37) % 64).enumerate() {
            assert_eq!(roster.remove(id(number)), Some(number));
            assert_eq!(roster.remove(id(number)), None);
            assert!(!roster.contains(id(number)) && roster.get(id(number)).is_none());
            assert_eq!(roster.len(), 63 - gone);
            for number in all(&roster) {
                assert_eq!(roster.get(id(number)), Some(&number));
                assert_eq!(roster.get_mut(id(number)), Some(&mut { number }));
            }
        }
        assert!(roster.is_empty() && roster.entries.capacity() < 8, "nor is room kept for them");
    }
}
