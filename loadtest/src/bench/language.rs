//! Something like what people write, made up: a vocabulary of English-looking and Japanese words, of which few are said
//! often and most hardly ever (Zipf), and messages of them.

use crate::chaos::chance::Chance;

const COMMON: &str = "the to a and is of in it you that for on with we this be are have not but at what so can just if \
    was or do will from they as my all when me up there no your get about out one how like would know time go now \
    think need see make good people some today new work thanks yes please";
const ONSETS: [&str; 20] =
    ["b", "br", "c", "ch", "d", "f", "g", "gr", "h", "l", "m", "n", "p", "pl", "r", "s", "st", "t", "tr", "v"];
const NUCLEI: [&str; 9] = ["a", "e", "i", "o", "u", "ai", "ea", "ou", "io"];
const CODAS: [&str; 10] = ["", "", "n", "r", "l", "s", "t", "ng", "ck", "nd"];
const PARTICLES: [&str; 14] =
    ["の", "に", "は", "を", "が", "で", "と", "も", "です", "ます", "から", "まで", "した", "ください"];
const KANJI: &str = "会議日本人大学生時間今年月週明先後前中上下東西南北京都駅道電車話出入口手足目耳心体力水火木金土山川田\
    村町店社員仕事業務作文書読語言葉意見物品料理食事飲酒茶花草犬猫魚鳥春夏秋冬朝昼夕夜空雨雪風海島国家族父母子";
const KANA: [&str; 24] = [
    "ア", "イ", "ウ", "エ", "オ", "カ", "キ", "ク", "ケ", "コ", "サ", "シ", "ス", "タ", "テ", "ト", "ナ", "ニ", "ハ",
    "マ", "ミ", "ラ", "リ", "ン",
];

/// Words of each language, the most common first.
const ENGLISH: usize = 20_000;
const JAPANESE: usize = 6_000;
/// Of a hundred messages, so many are Japanese.
const JAPANESE_PERCENT: usize = 40;
/// Zipf's exponent: the n-th word is said in proportion to 1/n^this.
const EXPONENT: f64 = 1.05;

pub struct Language {
    pub english: Vec<String>,
    pub japanese: Vec<String>,
    english_weights: Vec<f64>,
    japanese_weights: Vec<f64>,
}

impl Language {
    pub fn new(chance: &mut Chance) -> Self {
        let mut english: Vec<String> = COMMON.split_whitespace().map(str::to_owned).collect();
        fill(&mut english, ENGLISH, || {
            let syllable =
                |chance: &mut Chance| [chance.one_of(&ONSETS), chance.one_of(&NUCLEI), chance.one_of(&CODAS)].concat();
            (0..2 + chance.below(2)).map(|_| syllable(chance)).collect()
        });
        let kanji: Vec<char> = KANJI.chars().filter(|c| !c.is_whitespace()).collect();
        let mut japanese: Vec<String> = Vec::new();
        fill(&mut japanese, JAPANESE, || match chance.below(10) {
            0 => (0..3 + chance.below(3)).map(|_| chance.one_of(&KANA)).collect(),
            1 => (0..3).map(|_| chance.one_of(&kanji)).collect(),
            _ => (0..2).map(|_| chance.one_of(&kanji)).collect(),
        });
        let (english_weights, japanese_weights) = (weights(ENGLISH), weights(JAPANESE));
        Self { english, japanese, english_weights, japanese_weights }
    }

    /// A message: 3 to 25 words, or a few Japanese ones with what goes between them.
    pub fn message(&self, chance: &mut Chance, text: &mut String) {
        if chance.below(100) < JAPANESE_PERCENT {
            for _ in 0..2 + chance.below(7) {
                text.push_str(&self.japanese[pick(&self.japanese_weights, chance)]);
                text.push_str(chance.one_of(&PARTICLES));
            }
            text.push('。');
        } else {
            for n in 0..3 + chance.below(23) {
                if n > 0 {
                    text.push(' ');
                }
                text.push_str(&self.english[pick(&self.english_weights, chance)]);
            }
            text.push('.');
        }
    }
}

/// Adds new words until there are enough.
fn fill(words: &mut Vec<String>, most: usize, mut make: impl FnMut() -> String) {
    let mut known: std::collections::HashSet<String> = words.iter().cloned().collect();
    while words.len() < most {
        let word = make();
        if known.insert(word.clone()) {
            words.push(word);
        }
    }
}

/// Sums of what each word and those before it weigh.
fn weights(count: usize) -> Vec<f64> {
    let mut sum = 0.0;
    let weight = |n: usize| {
        sum += (n as f64 + 2.7).powf(-EXPONENT);
        sum
    };
    (0..count).map(weight).collect()
}

fn pick(weights: &[f64], chance: &mut Chance) -> usize {
    let total = weights.last().copied().unwrap_or_default();
    let at = (chance.next() >> 11) as f64 / (1u64 << 53) as f64 * total;
    weights.partition_point(|&sum| sum < at).min(weights.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_words_are_said_often() {
        let mut chance = Chance::new(1);
        let language = Language::new(&mut chance);
        assert_eq!((language.english.len(), language.japanese.len()), (ENGLISH, JAPANESE));
        let mut texts = String::new();
        for _ in 0..2_000 {
            language.message(&mut chance, &mut texts);
            texts.push('\n');
        }
        let said = |word: &str| texts.split([' ', '\n', '.']).filter(|said| *said == word).count();
        assert!(said("the") > 500 && said(&language.english[15_000]) < 20);
        assert_eq!(texts.lines().count(), 2_000);
    }
}
