//! Owns the computation: which iris a flower is, by linear discriminant analysis. Pure numbers; knows nothing
//! of HTTP or JSON (`oip`).
//!
//! Source of the weights: Fisher, "The use of multiple measurements in taxonomic problems" (1936). With the
//! class means m and the pooled covariance S of the paper's 150 flowers, w = S⁻¹m and b = -½ mᵀS⁻¹m; softmax
//! of Wx + b is then the posterior for equal priors. V2 has the same made from the two petal features alone.

use super::Variant;

/// Sepal length, sepal width, petal length, petal width, in cm.
pub type Features = [f64; FEATURES];

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// In the order of `LABELS`; they add up to 1.
    pub probabilities: [f64; CLASSES],
    /// The most probable one.
    pub label: &'static str,
    /// In nats: 0 is certain, ln 3 is no idea.
    pub entropy: f64,
}

pub fn predict(variant: Variant, features: &Features) -> Prediction {
    let model = if variant == Variant::V2 { &V2 } else { &STABLE };
    let score = |(weights, bias): &(Features, f64)| {
        weights.iter().zip(features).map(|(weight, feature)| weight * feature).sum::<f64>() + bias
    };
    let probabilities = softmax(std::array::from_fn(|class| score(&model[class])));
    let best = (1..CLASSES).fold(0, |best, i| if probabilities[i] > probabilities[best] { i } else { best });
    let entropy = -probabilities.iter().filter(|&&p| p > 0.0).map(|p| p * p.ln()).sum::<f64>();
    Prediction { probabilities, label: LABELS[best], entropy: entropy.max(0.0) }
}

/// Less the greatest score, so that no exponential overflows.
fn softmax(scores: [f64; CLASSES]) -> [f64; CLASSES] {
    let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers = scores.map(|score| (score - greatest).exp());
    let sum: f64 = powers.iter().sum();
    powers.map(|power| power / sum)
}

pub const FEATURES: usize = 4;
pub const CLASSES: usize = 3;
pub const LABELS: [&str; CLASSES] = ["setosa", "versicolor", "virginica"];

/// Weights and bias per class.
type Model = [(Features, f64); CLASSES];

const STABLE: Model = [
    ([23.54417, 23.58787, -16.43064, -17.39841], -85.20986),
    ([15.69821, 7.07251, 5.21145, 6.43423], -71.75400),
    ([12.44585, 3.68528, 12.76654, 21.07911], -103.26971),
];
const V2: Model = [
    ([0.0, 0.0, 8.54757, -2.83381], -5.89972),
    ([0.0, 0.0, 20.52712, 10.74944], -50.84965),
    ([0.0, 0.0, 24.61183, 23.30207], -91.92744),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Flowers 1, 51 and 101 of the data set.
    const FLOWERS: [(Features, &str); 3] = [
        ([5.1, 3.5, 1.4, 0.2], "setosa"),
        ([7.0, 3.2, 4.7, 1.4], "versicolor"),
        ([6.3, 3.3, 6.0, 2.5], "virginica"),
    ];

    #[test]
    fn both_variants_know_the_flowers_and_differ() {
        for (features, label) in FLOWERS {
            let stable = predict(Variant::Stable, &features);
            let v2 = predict(Variant::V2, &features);
            assert_eq!((stable.label, v2.label), (label, label));
            assert_ne!(stable.probabilities, v2.probabilities);
            for prediction in [stable, v2] {
                assert!((prediction.probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                assert!((0.0..0.1).contains(&prediction.entropy), "{prediction:?}");
            }
        }
    }

    #[test]
    fn a_flower_between_two_kinds_is_uncertain() {
        let unsure = predict(Variant::V2, &[6.0, 2.8, 4.9, 1.65]);
        assert!(unsure.entropy > 0.5, "{unsure:?}");
    }

    #[test]
    fn extreme_features_give_probabilities_too() {
        for features in [[1e6; 4], [-1e6; 4], [0.0; 4]] {
            let prediction = predict(Variant::Stable, &features);
            assert!(prediction.probabilities.iter().all(|p| (0.0..=1.0).contains(p)), "{prediction:?}");
        }
    }
}
