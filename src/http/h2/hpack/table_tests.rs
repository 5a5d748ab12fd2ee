//! Owns the tests of the dynamic table.

use super::super::support::Random;
use super::{Line, Table};

/// The names and values from the newest on.
fn entries(table: &Table) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (0..).map_while(|place| table.get(place)).map(|line| (text(line.name()), text(line.value()))).collect()
}

fn insert(table: &mut Table, name: &str, value: &str) -> bool {
    table.insert_parts(name.as_bytes(), value.as_bytes(), 0)
}

#[test]
fn newest_is_first_and_oldest_is_evicted() {
    let mut table = Table::new(3 * 34);
    for name in ["a", "b", "c"] {
        assert!(insert(&mut table, name, "1"));
    }
    assert_eq!(table.size(), 102);
    assert!(insert(&mut table, "d", "1"));
    let names: Vec<String> = entries(&table).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["d", "c", "b"]);
    assert!(insert(&mut table, "e", "12"), "evicts one, and one more for one byte");
    assert_eq!(entries(&table).len(), 2);
    assert_eq!(table.size(), 34 + 35);
}

#[test]
fn entry_as_large_as_the_table_fits() {
    let mut table = Table::new(64);
    assert!(insert(&mut table, "name", "1234567890123456789012345678"));
    assert_eq!(table.size(), 64);
}

#[test]
fn larger_entry_empties_the_table() {
    let mut table = Table::new(64);
    assert!(insert(&mut table, "a", "1"));
    assert!(!insert(&mut table, "name", "12345678901234567890123456789"));
    assert_eq!((table.size(), table.get(0)), (0, None));
    assert!(insert(&mut table, "a", "1"), "and it is usable afterwards");
}

#[test]
fn smaller_maximum_evicts() {
    let mut table = Table::new(200);
    for name in ["a", "b", "c", "d"] {
        insert(&mut table, name, "1");
    }
    table.set_size_max(70);
    assert_eq!(entries(&table).len(), 2);
    table.set_size_max(0);
    assert_eq!((table.size(), table.get(0)), (0, None));
    assert!(!insert(&mut table, "", ""));
    table.set_size_max(200);
    assert!(insert(&mut table, "", ""));
    assert_eq!(table.size(), 32);
}

#[test]
fn whole_lines_and_parts_are_the_same() {
    let (mut table, mut other) = (Table::new(100), Table::new(100));
    let line = Line { text: b"name: value\r\n", name_len: 4, name_index: 9 };
    assert!(table.insert(line));
    assert!(other.insert_parts(b"name", b"value", 9));
    assert_eq!(table.get(0), Some(line));
    assert_eq!(table.get(0), other.get(0));
    assert_eq!((table.size(), other.size()), (41, 41));
}

/// Against a list, for long enough that the positions wrap around.
#[test]
fn random_insertions() {
    let random = &mut Random(3);
    for round in 0..200 {
        let mut size_max = random.below(2000);
        let mut table = Table::new(size_max);
        if round % 2 == 0 {
            table.origin = u32::MAX - random.below(5000) as u32;
        }
        let mut model: Vec<(String, String)> = Vec::new();
        for _ in 0..300 {
            if random.below(60) == 0 {
                size_max = random.below(2000);
                table.set_size_max(size_max);
            } else {
                let name = "n".repeat(random.below(20));
                let value = random.below(10).to_string().repeat(random.below(70));
                insert(&mut table, &name, &value);
                model.insert(0, (name, value));
            }
            let size = |model: &[(String, String)]| -> usize {
                model.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
            };
            while size(&model) > size_max {
                model.pop();
            }
            assert_eq!(entries(&table), model);
            assert_eq!(table.size(), size(&model));
        }
    }
}

#[test]
fn memory_is_bounded_and_steady() {
    let random = &mut Random(4);
    let mut table = Table::new(4096);
    let mut insert = |table: &mut Table, longest: usize| {
        let value = random.text(random.0 as usize % longest);
        table.insert_parts(b"name", &value, 0);
    };
    for longest in [1, 10, 100, 1000, 4000] {
        (0..1000).for_each(|_| insert(&mut table, longest));
        assert!(table.bytes.capacity() <= 2 * 4096);
        assert!(table.entries.capacity() <= 128);
    }
    let (bytes, entries) = (table.bytes.as_ptr(), table.entries.capacity());
    (0..1000).for_each(|_| insert(&mut table, 4000));
    assert_eq!((bytes, entries), (table.bytes.as_ptr(), table.entries.capacity()));
}
