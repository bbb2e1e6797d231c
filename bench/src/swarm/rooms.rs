//! Who is in which room: one room for all, or rooms of fifty with every user in two of them.

use super::dialect::Dialect;

/// The assignment. Users are numbered; a user whose server knows one channel per connection has a
/// connection for each of their rooms.
#[derive(Debug, Clone)]
pub struct Rooms {
    /// Number of the first; the others follow.
    first: u32,
    /// Rooms of each kind: every user is in one of the first kind, and perhaps in one of the
    /// second.
    kind: usize,
    per_user: usize,
    /// Connections of a user.
    split: usize,
    /// Members that read, by room.
    members: Vec<u32>,
    /// The connection that publishes to a room: its first member.
    publishers: Vec<usize>,
}

impl Rooms {
    /// For so many users in so many rooms altogether; `stalled` says which connection never reads.
    /// With `streams` of more than one a connection carries so many users, all in one room.
    pub fn new(
        dialect: Dialect,
        users: usize,
        rooms: usize,
        streams: usize,
        stalled: impl Fn(usize) -> bool,
    ) -> Self {
        let users = users.div_ceil(streams);
        let per_user = if rooms > 1 { 2 } else { 1 };
        let kind = (rooms / per_user).max(1);
        let split = per_user.div_ceil(dialect.rooms_max());
        let mut made = Self {
            first: 0,
            kind,
            per_user,
            split,
            members: vec![0; kind * per_user],
            publishers: vec![usize::MAX; kind * per_user],
        };
        for connection in (0..users * split).filter(|at| !stalled(*at)) {
            for room in made.of(connection, users) {
                let room = room as usize;
                made.members[room] += streams as u32;
                made.publishers[room] = made.publishers[room].min(connection);
            }
        }
        made
    }

    /// The same rooms under other numbers.
    pub fn starting_at(self, first: u32) -> Self {
        Self { first, ..self }
    }

    /// The room at an index.
    pub fn at(&self, index: usize) -> u32 {
        self.first + index as u32
    }

    /// Where a room stands.
    pub fn index(&self, room: u32) -> usize {
        (room - self.first) as usize
    }

    /// Rooms of a connection.
    pub fn of(&self, connection: usize, users: usize) -> Vec<u32> {
        let user = connection / self.split;
        let first = user % self.kind;
        if self.per_user == 1 {
            return vec![self.at(first)];
        }
        // Users that share a room of the first kind are apart in the second.
        let each = users.div_ceil(self.kind).max(1);
        let second = self.kind + (user / each) % self.kind;
        match (self.split, connection % self.split) {
            (1, _) => vec![self.at(first), self.at(second)],
            (_, 0) => vec![self.at(first)],
            _ => vec![self.at(second)],
        }
    }

    /// Connections of so many users, or of so many groups that share one.
    pub fn connections(&self, users: usize) -> usize {
        users * self.split
    }

    /// How many rooms there are.
    pub fn count(&self) -> usize {
        self.members.len()
    }

    /// Members of a room that read.
    pub fn members(&self, room: u32) -> u32 {
        self.members[self.index(room)]
    }

    /// Who publishes there.
    pub fn publisher(&self, room: u32) -> usize {
        self.publishers[self.index(room)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_room_has_fifty_members_and_nobody_is_in_one_twice() {
        let rooms = Rooms::new(Dialect::Plain, 1_000, 40, 1, |_| false);
        assert_eq!((rooms.count(), rooms.connections(1_000)), (40, 1_000));
        for room in 0..40 {
            assert_eq!(rooms.members(room), 50, "room {room}");
            assert!(rooms.of(rooms.publisher(room), 1_000).contains(&room));
        }
    }

    #[test]
    fn a_user_has_two_connections_where_one_follows_one_channel() {
        let rooms = Rooms::new(Dialect::Shardcast, 1_000, 40, 1, |_| false);
        assert_eq!(rooms.connections(1_000), 2_000);
        assert!((0..40).all(|room| rooms.members(room) == 50));
        let both = [rooms.of(14, 1_000), rooms.of(15, 1_000)].concat();
        assert_eq!(both, Rooms::new(Dialect::Plain, 1_000, 40, 1, |_| false).of(7, 1_000));
    }

    #[test]
    fn rooms_under_other_numbers_have_the_same_members() {
        let (rooms, moved) = (Rooms::new(Dialect::Plain, 1_000, 40, 1, |_| false), 7_000);
        let other = rooms.clone().starting_at(moved);
        for user in 0..1_000 {
            let expected: Vec<u32> = rooms.of(user, 1_000).iter().map(|it| it + moved).collect();
            assert_eq!(other.of(user, 1_000), expected);
        }
        for index in 0..40 {
            let (one, two) = (rooms.at(index), other.at(index));
            assert_eq!((rooms.index(one), other.index(two)), (index, index));
            assert_eq!(rooms.members(one), other.members(two));
            assert_eq!(rooms.publisher(one), other.publisher(two));
        }
    }

    #[test]
    fn who_stalls_is_no_member_and_no_publisher() {
        let rooms = Rooms::new(Dialect::Plain, 100, 1, 1, |at| at % 10 == 0);
        assert_eq!((rooms.members(0), rooms.publisher(0)), (90, 1));
    }
}
