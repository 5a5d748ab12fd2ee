//! Tests of the geometry, at the roundings and at the extremes, and of scaling where the answer is known.

use super::*;

fn geometry(fit: Fit, wanted: (u32, u32), image: (u32, u32)) -> Geometry {
    Geometry::of(&Wanted { width: wanted.0, height: wanted.1, fit, ..Wanted::default() }, image)
}

#[test]
fn a_stretched_image_fills_the_tensor() {
    let seen = geometry(Fit::Stretch, (7, 9), (640, 480));
    assert_eq!(seen, Geometry { from: [0.0, 0.0, 640.0, 480.0], left: 0, top: 0, width: 7, height: 9 });
}

#[test]
fn a_letterbox_rounds_as_pillow_does() {
    // Wanted, image; left, top, width, height. From ImageOps.pad of Pillow 13, but for the last two.
    let cases = [
        ((640, 640), (1920, 1080), (0, 140, 640, 360)),
        ((640, 640), (1080, 1920), (140, 0, 360, 640)),
        ((224, 224), (224, 224), (0, 0, 224, 224)),
        // Bars of 42.5 and 41.5: the even side.
        ((224, 224), (500, 310), (0, 42, 224, 139)),
        ((224, 224), (224, 141), (0, 42, 224, 141)),
        // A side of 2.5.
        ((10, 10), (4, 1), (0, 4, 10, 2)),
        // Pillow leaves nothing of it.
        ((224, 224), (10_000, 1), (0, 112, 224, 1)),
        ((224, 224), (1, 10_000), (112, 0, 1, 224)),
    ];
    for (wanted, image, (left, top, width, height)) in cases {
        let seen = geometry(Fit::Letterbox { pad: 0 }, wanted, image);
        let from = [0.0, 0.0, f64::from(image.0), f64::from(image.1)];
        assert_eq!(seen, Geometry { from, left, top, width, height }, "{image:?}");
    }
}

#[test]
fn a_crop_is_what_torchvision_leaves() {
    // Of 640x480 scaled to 298x224, the columns 37 to 261.
    let Geometry { from, .. } = geometry(Fit::Crop, (224, 224), (640, 480));
    assert_eq!(from, [37.0 * 640.0 / 298.0, 0.0, 261.0 * 640.0 / 298.0, 480.0]);
    // 10x15 leaves 2.5 above: the even side. 10x17 leaves 3.5.
    assert_eq!(geometry(Fit::Crop, (10, 10), (10, 15)).from, [0.0, 2.0, 10.0, 12.0]);
    assert_eq!(geometry(Fit::Crop, (10, 10), (10, 17)).from, [0.0, 4.0, 10.0, 14.0]);
    assert_eq!(geometry(Fit::Crop, (10, 10), (10, 10)).from, [0.0, 0.0, 10.0, 10.0]);
}

#[test]
fn every_geometry_lies_within_image_and_tensor() {
    let sides = [1, 2, 3, 7, 224, 225, 1000, 8191, 65_535];
    let each = |fit, wanted: (u32, u32), image: (u32, u32)| {
        let Geometry { from: [left, top, right, bottom], left: x, top: y, width, height } =
            geometry(fit, wanted, image);
        assert!(0.0 <= left && left < right && right <= f64::from(image.0), "{fit:?} {wanted:?} {image:?}");
        assert!(0.0 <= top && top < bottom && bottom <= f64::from(image.1), "{fit:?} {wanted:?} {image:?}");
        assert!(width > 0 && x + width <= wanted.0 && height > 0 && y + height <= wanted.1);
    };
    for fit in [Fit::Stretch, Fit::Letterbox { pad: 1 }, Fit::Crop] {
        for (a, b) in sides.iter().flat_map(|&a| sides.map(|b| (a, b))) {
            for (c, d) in [1, 3, 224, 299, 8192].iter().flat_map(|&c| [1, 5, 224, 8192].map(|d| (c, d))) {
                each(fit, (c, d), (a, b));
            }
        }
    }
}

#[test]
fn scaling_is_exact_where_it_is_known() {
    let mut scaled = Vec::new();
    let mut resizer = Resizer::new();
    let mut run = |pixels: &[u8], sides, channels, from, to| {
        scale(&mut resizer, pixels, sides, channels, from, to, &mut scaled);
        scaled.clone()
    };
    // An even one stays so, at any size.
    let even = run(&[77; 5 * 3 * 3], (5, 3), 3, [0.0, 0.0, 5.0, 3.0], (9, 2));
    assert_eq!(even, [77; 9 * 2 * 3]);
    // Cut at whole pixels, it is copied.
    assert_eq!(run(b"abcdef", (3, 2), 1, [1.0, 0.0, 3.0, 2.0], (2, 2)), b"bcef");
    // Halved: each with its neighbours' share, by a triangle of twice the width.
    assert_eq!(run(&[0, 0, 0, 0, 80, 80, 80, 80], (8, 1), 1, [0.0, 0.0, 8.0, 1.0], (4, 1)), [0, 10, 70, 80]);
}
