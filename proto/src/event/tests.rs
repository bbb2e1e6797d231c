use super::*;

fn draft() -> Draft<'static> {
    Draft {
        channel: "orders:eu",
        id: "a1",
        kind: "order",
        source: "shop",
        key: "k",
        content_type: "text/plain",
        traceparent: "00-1-2-01",
        attributes: r#"{"x":1}"#,
        time_us: Some(5),
        class: Class::Critical,
        data_kind: DataKind::Text,
        data: "grün".as_bytes(),
        ..Draft::default()
    }
}

#[test]
fn an_image_reads_back_as_it_was_built() {
    let position = Position { epoch: Epoch::new(3, 4), offset: 9 };
    let event = draft().build().unwrap().place(position, 77);
    let read = Event::decode(event.as_bytes().clone()).unwrap();
    assert_eq!(read, event);
    assert_eq!(read.channel(), "orders:eu");
    assert_eq!(read.position(), position);
    assert_eq!((read.time_us(), read.accepted_us()), (5, 77));
    assert_eq!((read.id(), read.kind(), read.source()), ("a1", "order", "shop"));
    assert_eq!((read.key(), read.content_type()), ("k", "text/plain"));
    assert_eq!((read.traceparent(), read.attributes()), ("00-1-2-01", r#"{"x":1}"#));
    assert_eq!(read.data(), "grün".as_bytes());
    assert_eq!((read.class(), read.data_kind()), (Class::Critical, DataKind::Text));
    assert_eq!(read.dedupe_key(), Some(("a1", "shop")));
}

#[test]
fn images_side_by_side_are_the_images_that_stand_alone() {
    let drafts = [draft(), Draft { time_us: None, data: b"", ..draft() }, draft()];
    let sizes = drafts.iter().map(|draft| draft.build().unwrap().size());
    let planned = sizes.sum::<usize>();
    // Exact, too large because one was a duplicate, and too small: never a wrong image.
    for planned in [planned, planned * 2, 10] {
        let mut room = ImageRoom::new(planned);
        for (draft, offset) in drafts.iter().zip(1..) {
            let position = Position { epoch: Epoch(7), offset };
            let beside = draft.build().unwrap().place_in(&mut room, position, 77);
            let alone = draft.build().unwrap().place(position, 77);
            assert_eq!(beside, alone);
            assert_eq!(Event::decode(beside.as_bytes().clone()), Ok(alone));
        }
    }
}

#[test]
fn an_image_keeps_little_alive_whatever_was_planned_beside_it() {
    let place = |room: &mut ImageRoom, bytes: usize| {
        let data = vec![b'x'; bytes];
        let draft = Draft { data: &data, ..draft() };
        draft.build().unwrap().place_in(room, Position { epoch: Epoch(7), offset: 1 }, 77);
        room.piece()
    };
    let mut room = ImageRoom::new(64 << 10);
    assert_eq!(place(&mut room, 100), (ImageRoom::PIECE_BYTES, true));
    assert_eq!(place(&mut room, 100), (ImageRoom::PIECE_BYTES, false));
    let (bytes, new) = place(&mut room, 50_000);
    assert!(new && (50_000..51_000).contains(&bytes), "one image of any size, alone");
    let (rest, new) = place(&mut room, 8_000);
    assert!(new && rest > 8_000 && rest < 64 << 10, "{rest}");
}

#[test]
fn an_event_without_time_takes_the_time_of_acceptance() {
    let draft = Draft { time_us: None, ..draft() };
    let event = draft.build().unwrap().place(Position { epoch: Epoch(1), offset: 1 }, 77);
    assert_eq!(event.time_us(), 77);
}

#[test]
fn no_damage_to_an_image_panics_or_reads_out_of_bounds() {
    let event = draft().build().unwrap().place(Position { epoch: Epoch(1), offset: 1 }, 77);
    let image = event.as_bytes().to_vec();
    for cut in 0..image.len() {
        assert!(Event::decode(Bytes::copy_from_slice(&image[..cut])).is_err(), "cut {cut}");
    }
    for at in 0..image.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut damaged = image.clone();
            damaged[at] = value;
            if let Ok(event) = Event::decode(damaged.into()) {
                let _ = (event.channel(), event.data(), event.attributes(), event.dedupe_key());
            }
        }
    }
}

#[test]
fn fields_over_their_limit_are_refused_by_name() {
    let long = "x".repeat(FIELD_BYTES_MAX + 1);
    let refused = Draft { kind: &long, ..draft() }.build().unwrap_err();
    assert_eq!(refused, EventError::FieldTooLong("type"));
}
