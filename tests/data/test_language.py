"""Languages are data: what questions and answers look like in each, from training rows to the verdict on an answer.

python -m pytest tests/data/test_language.py -v
"""

from collections import Counter

import pytest
from data_sets import rows_of

from config import LANGUAGES, DataConfig
from data.answer_space import apply, conventions, mine, reachable
from data.language import EXCLUSIVE, names_answers, table, unread_language, yes_no_answers
from data.matching import conventions_of, is_correct, judge, labels_of
from data.quantities import parse_count, parse_quantity
from data.rules import read_question


def enriched(languages, question, answers, ask_for=None):
    space = mine(rows_of(question, answers), DataConfig(language=languages))
    return apply(space, {"question": ask_for or question, "answer": answers[0], "image": "x", "id": "x"})


# --- the tables ---


def test_five_languages_have_what_english_has():
    assert {"de", "en", "es", "fr", "zh"} <= set(LANGUAGES)
    needed = ("yes_no", "none", "not_relevant", "asks_count", "asks_color", "asks_size", "alternatives", "mm_per_unit", "comparisons")
    for name in LANGUAGES:
        own = table((name,))
        assert all(own[key] for key in needed) and (own["numbers"] or own["ones"]) and (own["opens_yes_no"] or own["within_yes_no"]), name
    both = table(("de", "en"))
    assert both["yes_no"] == [["ja", "nein"], ["yes", "no"]] and "millimetern" in both["mm_per_unit"][1]


# --- types and constraints ---


@pytest.mark.parametrize("languages", [("en", "de", "zh"), ("zh", "en", "de"), ("de", "zh", "en")])
def test_what_one_of_several_languages_has_they_have_together(languages):
    """A comma as it is read in one of them, words that one doesn't part; each list's entries once."""
    joined = table(languages)
    assert (joined["decimal_comma"], joined["unspaced"]) == (True, True)
    assert (table(("en",))["decimal_comma"], table(("en",))["unspaced"], table(("de",))["unspaced"]) == (False, False, False)
    assert set(joined["none"]) == {word for language in languages for word in table((language,))["none"]}
    assert len(joined["none"]) == len(set(joined["none"]))


@pytest.mark.parametrize(
    ("languages", "question", "answers", "question_type", "candidates"),
    [
        ("de", "Wie viele Polypen sind zu sehen?", ["0", "1", "2", "4"] * 10, "count_numeric", [*"0123456789"]),
        ("fr", "Combien de polypes y a-t-il ?", ["0", "1", "3"] * 10, "count_numeric", [*"012345678"]),
        ("es", "¿Cuántos pólipos hay?", ["0", "2"] * 15, "count_numeric", [*"01234567"]),
        ("zh", "图中有多少个息肉？", ["0", "2"] * 15, "count_numeric", [*"01234567"]),
        ("zh", "图中是否有息肉？", ["是", "否"] * 15, "yes_no", ["是", "否"]),
        ("zh", "图中有没有息肉？", ["有", "无"] * 15, "yes_no", ["有", "无"]),
        ("zh", "图中有息肉吗？", ["有"], "yes_no", ["有", "无"]),
        ("de", "Ist ein Polyp zu sehen?", ["ja"] * 30, "yes_no", ["ja", "nein"]),
        ("de", "Ist ein Polyp zu sehen?", ["ja", "nicht relevant"] * 15, "yes_no", ["ja", "nein", "nicht relevant"]),
        ("fr", "Y a-t-il un polype ?", ["non"], "yes_no", ["oui", "non"]),
        ("es", "¿Hay un pólipo?", ["sí", "no"], "yes_no", ["sí", "no"]),
        ("es", "¿De qué color es?", ["rojo", "rosa"] * 15, "color", ["rojo", "rosa"]),
        ("es", "¿De qué color es?", ["rojo"], "color", None),
        ("de", "Welche Farbe hat der Polyp?", ["rot", "rosa"] * 15, "color", ["rosa", "rot"]),
        ("de", "Wie groß ist der Polyp?", [f"{n} mm" for n in range(40)], "size_numeric", None),
        (["en", "de"], "Ist ein Polyp zu sehen?", ["ja"], "yes_no", ["ja", "nein"]),
        ("en", "Ist ein Polyp zu sehen?", ["ja", "nein"] * 15, "mcq", ["ja", "nein"]),
    ],
)  # fmt: skip
def test_types_and_valid_answers_follow_the_language(languages, question, answers, question_type, candidates):
    found = enriched(languages, question, answers)
    assert (found["question_type"], found["answer_candidates"]) == (question_type, candidates)


def test_a_closed_german_count_lets_the_number_between_be_said():
    found = enriched("de", "Wie viele Polypen sind zu sehen?", ["0", "1", "2", "4"] * 10)
    assert reachable({**found, "answer": "3"})


@pytest.mark.parametrize("word", ["none", "keine", "nicht relevant", "aucune", "ninguno", "无"])
def test_none_stands_in_no_list_in_any_language(word):
    assert word in EXCLUSIVE
    other = "oben"
    found = enriched("en", "Wo?", [f"{other}; unten", other, word, "unten"] * 10)
    assert found["multi_label"] and found["answer_candidates"][-1] == word
    assert not reachable({**found, "answer": f"{word}; {other}"})


def test_a_yes_brings_the_no_that_goes_with_it():
    assert yes_no_answers({"ja": 9}, ("de",)) == ["ja", "nein"] and yes_no_answers({"ja": 9}) == []
    assert yes_no_answers({"否": 1, "无": 2, "有": 5}, ("zh",)) == ["有", "无"], "one yes and one no: the others are spellings of these"
    assert yes_no_answers({"无": 40}, ("zh",)) == [] == yes_no_answers({"none": 3}), "nothing says that it is asked for a yes"
    assert yes_no_answers({"yes": 9, "polyp": 1}) == []


SAME = [
    ("es", {"sí": 12, "si": 20, "no": 14}, ["si", "no"], "sí", "si"),
    ("zh", {"是": 20, "有": 9, "否": 10, "没有": 5, "无": 4}, ["是", "否"], "无", "否"),
    (["de", "en"], {"ja": 9, "nein": 11, "yes": 20, "no": 12}, ["yes", "no"], "nein", "no"),
    (["de", "en"], {"yes": 2, "ja": 3}, ["ja", "nein"], "yes", "ja"),  # too few to close it
    (["de", "en"], {"ja": 150, "yes": 50, "nein": 50, "vielleicht": 1}, ["ja", "nein"], "no", "nein"),  # with a slip
]  # fmt: skip


@pytest.mark.parametrize("ask_for", [None, "unseen"])
@pytest.mark.parametrize(("languages", "said", "candidates", "word", "kept"), SAME)
def test_every_yes_is_one_label_in_training_and_in_scoring(languages, said, candidates, word, kept, ask_for):
    question = {"es": "¿Hay un pólipo?", "zh": "图中有息肉吗？"}.get(str(languages), "Ist ein Polyp zu sehen?")
    space = mine(rows_of(question, list(Counter(said).elements())), DataConfig(language=languages))
    other = {"es": "¿Hay una pinza?", "zh": "图中有夹子吗？"}.get(str(languages), "Ist eine Zange zu sehen?")
    row = apply(space, {"question": other if ask_for else question, "answer": word, "image": "x", "id": "x"})
    assert (row["answer"], row["answer_candidates"]) == (kept, candidates) and reachable(row)
    judged = judge(
        [{**row, "qtype": "yes_no", "gt": gt, "pred": pred} for gt in (word, kept) for pred in candidates], conventions=conventions(space)
    )
    assert [verdict["correct"] for verdict in judged] == [pred == kept for gt in (word, kept) for pred in candidates]
    assert ask_for or list(labels_of(word, conventions_of(row, conventions(space)))) == [kept], "one line of a confusion table"


def test_other_spellings_of_yes_and_no_are_counted_and_known_where_nobody_trained_on_them():
    rows = rows_of("¿Hay un pólipo?", ["sí"] * 20 + ["si"] * 12 + ["no"] * 9)
    assert mine(rows, DataConfig(language="es"))["found"]["folded"] == {"si → sí": 12}
    assert is_correct("yes_no", "ja", "Yes.", convention={"languages": ["de", "en"]})
    assert not is_correct("yes_no", "ja", "no", convention={"languages": ["de", "en"]}) and not is_correct("yes_no", "yes", "ja")
    assert not is_correct("open_ended", "是", "有", convention={"languages": ["zh"]}), "only where yes or no is asked for"


# --- what a question asks, by whole words ---


@pytest.mark.parametrize(
    "question",
    [
        "Is it left/right sided?", "Is this forceps or snare?", "Is it a snare vs forceps?", "Is it: polyp, ulcer, normal?",
        "Is there a polyp? If so, what colour?", "Is there a polyp and where is it?", "Are these CT/MRI images?",
    ],
)  # fmt: skip
def test_a_question_that_names_other_answers_is_no_yes_no_question(question):
    space = mine(rows_of("Is there text?", ["yes"]))
    found = apply(space, {"question": question, "answer": "left", "image": "x", "id": "x"})
    assert (found["question_type"], found["answer_candidates"]) == ("open_ended", None)


OFFERS = {
    "en": (
        "Is there text? What does it say?", "Is there text? Describe it.", "Is it red, white, or yellow?", "Is it red, white, yellow?",
        "Is it a) forceps b) snare?", "Is it (1) forceps (2) snare?", "Is this it?\nA. forceps\nB. snare", "Is it there (yes/no/unclear)?",
        "Is it there? Yes, no, unclear", "Is it a grasper|hook?", "Does it bleed, and from where?", "Does it bleed and from where?",
        "Is there bleeding, where?", "Is it grade 1/2/3?", "Is it I/II/III?", "Is it T1/T2?", "Is it left\\right?",
        "Is there a polyp, size?",
        "Is it flat, elevated; depressed?", "Can you tell which side?", "Can you name the instrument?", "Do you know what it is?",
        "Could you please describe it?", "Can you see how many there are?",
    ),
    "de": (
        "Gibt es Schrift? Was steht da?", "Ist es rot, weiß, gelb?", "Ist es a) Zange b) Schlinge?", "Ist es da (ja/nein/unklar)?",
        "Ist ein Polyp da, wo?", "Ist ein Polyp zu sehen, wie groß ist er?", "Können Sie das Instrument nennen?", "Ist es Grad 1/2/3?",
        "Können Sie sagen, welche Seite?", "Ist da Blut und von wo?",
    ),
    "fr": (
        "Y a-t-il du texte ? Que dit-il ?", "Est-ce rouge, blanc, bleu ?", "Est-ce pince|anse ?", "Est-ce net (oui/non/incertain) ?",
        "Le polype où est-il ?", "Lequel est-il ?", "Avec quel instrument a-t-on réséqué ?", "Par quoi est-il causé ?", "D'où est-il ?",
        "Pour quelle raison a-t-on réséqué ?", "En quelle position est-il ?", "Depuis quand est-il là ?", "Y a-t-il du sang, où ?",
        "Peut-on dire combien il y en a ?", "Pouvez-vous nommer l'instrument ?", "Est-ce que vous savez où il est ?",
    ),
    "es": (
        "¿Hay texto? ¿Qué dice?", "¿Es rojo, blanco, amarillo?", "¿Es a) pinza b) asa?", "¿Está ahí (sí/no/dudoso)?",
        "¿Es hiperplásico u otro tipo?", "¿Hay pólipos u úlceras?", "¿Es benigno ó maligno?", "¿Hay sangre, dónde?", "¿Hay sangre, donde?",
        "¿Puede decir cuántos hay?", "¿Puede nombrar el instrumento?",
    ),
    "zh": (
        "有文字吗？写的是什么？", "是否为红色、白色、黄色？", "是否为a）钳 b）圈套器？", "有息肉吗（是/否/不清楚）？", "是否为左/右？",
        "是否为良性、恶性？", "是否有息肉，大小？", "可以数一下有多少吗？", "能否说出器械的名称？", "是否有息肉，有几个？",
    ),
}  # fmt: skip
CLOSED = {
    "en": (
        "Is there text? Answer yes or no.", "Is there text? (yes/no)", "Is there text? Yes or no?", "Is there text?\nAnswer in a word.",
        "Is there text? a) yes b) no", "Is it there (yes|no)?", "Are the cystic duct, artery and plate visible?", "Is it 1.5 cm?",
        "Is the tool, visible in the image, a snare?", "Is there a tool (e.g. snare, hook, clip)?", "Is the CVS (critical view) achieved?",
        "Is the tool, which holds the tissue, visible?", "Can you tell if it bleeds?", "Can you identify a polyp?",
        "Is it from 12/03/2020?", "Is it 5 - 10 mm in size?", "Is it 1,5 cm in size?",
        "Does the colour fade?", "Do the lesions differ in colour?", "Has the size changed?", "Was the diameter measured?",
        "Does the number of polyps change?", "Can the surgeon see where it bleeds?",
    ),
    "de": (
        "Ist ein Polyp zu sehen?", "Ist es da (ja/nein)?", "Ist es da? Antworten Sie mit ja oder nein.", "Ist die Farbe normal?",
        "Ist die Stelle, wo es blutet, sichtbar?",
    ),
    "fr": (
        "Y a-t-il un polype ?", "Y a-t-il un polype (oui/non) ?", "La zone où il saigne est-elle visible ?", "Le polype est-il visible ?",
        "Le polype qui saigne est-il visible ?", "Dans cette image, la taille est-elle normale ?",
    ),
    "es": ("¿Hay un pólipo?", "¿Hay un pólipo (sí/no)?", "¿Es el color normal?", "¿Está la zona donde sangra visible?"),
    "zh": (
        "图中是否有息肉？", "有息肉吗？（是/否）", "有息肉吗？请回答是或否。", "颜色是否正常？", "如图所示，大小是否正常？",
        "是否为息肉（是/否）？",
    ),
}  # fmt: skip


@pytest.mark.parametrize("language", OFFERS)
def test_what_a_question_offers_or_asks_beside_yes_and_no_is_seen_in_every_language(language):
    may_be = lambda question: (
        "yes_no" in (read_question(question, (language,)).type, read_question(question, (language,)).form and "yes_no")
    )
    assert [question for question in OFFERS[language] if may_be(question)] == []
    assert [question for question in CLOSED[language] if not may_be(question)] == []
    literal = mine(rows_of("Is there text?", ["yes"]), DataConfig(answer_space="rules"))
    assert apply(literal, {"question": OFFERS["en"][0], "answer": "?", "image": "x", "id": "x"})["question_type"] == "yes_no", (
        "to the letter"
    )


def test_a_few_training_answers_say_whether_a_slash_names_answers():
    """Too few rows to close a question, but yes and no is what it is answered with."""
    space = mine(rows_of("Is there a green/black box?", ["yes", "no"])[:12] + rows_of("Is it left/right sided?", ["left", "right"])[:12])
    candidates = lambda question: apply(space, {"question": question, "answer": "?", "image": "x", "id": "x"})["answer_candidates"]
    assert candidates("Is there a green/black box?") == ["yes", "no"] and candidates("Is it left/right sided?") is None


def test_does_is_a_yes_no_question_where_training_rows_answer_so():
    train = rows_of("Does it bleed?", ["yes"]) + rows_of("Was a clip used?", ["no"]) + rows_of("Can you interpret it?", ["a red spot"])
    train += rows_of("Can you see it?", ["yes", "yes"]) + rows_of("Where?", ["here"])
    space = mine(train)
    ask = lambda question: apply(space, {"question": question, "answer": "?", "image": "x", "id": "x"})
    for question in ("Does it ooze?", "Was a snare used?", "Can you see it?", "Does it bleed?"):
        assert (ask(question)["question_type"], ask(question)["answer_candidates"]) == ("yes_no", ["yes", "no"]), question
    for question in ("Can you name it?", "Has it gone?", "Does it ooze or bleed?", "Does it ooze? If so, where?"):
        assert (ask(question)["question_type"], ask(question)["answer_candidates"]) == ("open_ended", None), question
    assert set(space["questions"]) == {"can you see it"} and space["yes_no_forms"] == {"does": ["yes", "no"], "was": ["yes", "no"]}
    literal = mine(train, DataConfig(answer_space="rules"))
    assert apply(literal, {"question": "Does it ooze?", "answer": "?", "image": "x", "id": "x"})["question_type"] == "open_ended"


COUNTS = {
    "en": ("No. of polyps", "# polyps", "# of polyps?", "Number visible?", "Quantity of polyps", "Total number of tools", "How many?"),
    "de": (
        "Anzahl Polypen?", "Anzahl an Polypen", "Anzahl sichtbarer Polypen", "Polypenanzahl?", "Polypenzahl", "Gesamtzahl der Polypen",
        "Zahl der Polypen", "Zahl sichtbarer Polypen", "Wieviel Polypen?", "Wie viele?",
    ),
    "fr": ("Nombre total de polypes ?", "Nb de polypes", "Nb. polypes", "Nombre d'instruments visibles ?",),
    "es": (
        "¿Número total de pólipos?", "Cantidad total de pólipos", "N.º de pólipos", "Nº de pólipos", "N° de pólipos", "Recuento de pólipos",
    ),
    "zh": ("息肉总数", "图中有几只器械？", "有几？", "几件器械？", "息肉数", "息肉数量是多少？"),
}  # fmt: skip
OTHERS = {
    "en": ("Which number is written there?", "What does patient #4 show?", "Number the tools."),
    "de": ("Welche Zahl steht da?", "Welche Kennzahl?", "Welche Anzahlung?"), "fr": ("Compte rendu ?",), "es": ("¿Dónde está?",),
    "zh": ("第几个？", "几何形状如何？", "评分分数"),
}  # fmt: skip


@pytest.mark.parametrize("language", COUNTS)
def test_a_count_is_asked_for_in_many_words(language):
    types = {question: read_question(question, (language,)).type for question in (*COUNTS[language], *OTHERS[language])}
    assert [question for question in types if (types[question] == "count_numeric") != (question in COUNTS[language])] == []


def test_whole_numbers_close_with_those_between_them_whatever_the_words():
    said = lambda answers: enriched("en", "Polyps, total", answers)["answer_candidates"]
    assert said(["0", "1", "2", "4"] * 10) == [*"01234"], "a grade has a last one: no margin"
    assert said(["1", "3", "none"] * 12) == ["1", "2", "3", "none"]
    assert said(["3", "40"] * 20) == ["3", "40"] and said(["1", "3", "clip"] * 12) == ["1", "3", "clip"], "codes, and no scale"


def test_a_colour_is_no_answer_to_whether_it_changes():
    """`does` was never trained on: whether it is a yes/no question nobody said, but no colour answers it."""
    found = enriched("en", "Where?", ["here"], "Does the colour fade?")
    assert found["answer_candidates"] is None and enriched("en", "Where?", ["here"], "What colour is it?")["answer_candidates"]
    assert enriched("en", "Does it bleed?", ["yes"], "Does the colour fade?")["answer_candidates"] == ["yes", "no"]


@pytest.mark.parametrize("lists", [["息肉、溃疡", "溃疡、出血"], ["息肉; 溃疡", "溃疡; 出血"]])
def test_the_chinese_list_sign_parts_labels(lists):
    question = "图中可见什么？"
    space = mine(rows_of(question, [*lists, "息肉", "溃疡", "出血"] * 8), DataConfig(language="zh"))
    entry = space["questions"]["图中可见什么"]
    assert entry["multi_label"] and sorted(entry["candidates"]) == sorted(["息肉", "溃疡", "出血"])
    (row,) = judge([{"gt": "息肉; 溃疡", "pred": "溃疡、息肉", "qtype": "mcq", "question": question}], conventions=conventions(space))
    assert row["correct"]
    prose = ["胃窦见充血、水肿", "食管见糜烂、溃疡、结节", "未见异常", "十二指肠正常"]
    assert mine(rows_of(question, prose * 8), DataConfig(language="zh"))["questions"]["图中可见什么"]["multi_label"] is False


@pytest.mark.parametrize(
    ("languages", "question", "word"),
    [
        ("de", "Wie viele Polypen?", "keiner"), ("de", "Wie viele Polypen?", "keine"), ("zh", "有几个息肉？", "无"),
        ("zh", "有几个息肉？", "没有"), ("es", "¿Cuántos pólipos hay?", "no hay"), ("es", "¿Cuántos pólipos hay?", "ninguno"),
        ("fr", "Combien de polypes ?", "aucun"), (["de", "en"], "Wie viele Polypen?", "keiner"),
    ],
)  # fmt: skip
def test_none_is_a_count_and_no_rival_of_0(languages, question, word):
    found = enriched(languages, question, [word, "0", "1", "2"] * 10)
    assert (found["answer"], found["answer_candidates"]) == ("0", [*"01234567"])


def test_opening_marks_and_swiss_spelling_say_nothing():
    assert is_correct("yes_no", "sí", "¡Sí!", convention={"languages": ["es"]}) and is_correct("open_ended", "rojo", "¿rojo?")
    assert enriched("de", "Welche Farbe?", ["weiss", "weiß", "rot"] * 12)["answer_candidates"] == ["rot", "weiß"]


def test_a_slash_or_a_colon_alone_names_no_answers():
    assert not names_answers("Is it (12:30)?", "is it 12:30") and names_answers("Is it a/b cd/ef?", "is it a b cd ef")


# --- numbers ---


@pytest.mark.parametrize(
    ("languages", "question", "answer", "count"),
    [
        ("de", "Wie viele Polypen sind zu sehen?", "Es sind zwei Polypen zu sehen.", 2), ("de", "Wie viele Polypen?", "keine Polypen", 0),
        ("de", "Wie viele Polypen?", "ein Polyp", 1), ("de", "Wie viele Polypen?", "zwei Instrumente", None),
        ("de", "Wie viele?", "nicht 5", None), ("fr", "Combien de polypes ?", "Il y a deux polypes.", 2),
        ("fr", "Combien de polypes ?", "aucun", 0), ("es", "¿Cuántos pólipos hay?", "no hay pólipos", 0), ("es", "¿Cuántos?", "dos", 2),
        ("zh", "图中有多少个息肉？", "有两个息肉", 2), ("zh", "图中有多少个息肉？", "图中可见3枚息肉", 3), ("zh", "有几个？", "十二个", 12),
        ("zh", "图中有多少个息肉？", "没有息肉", 0), ("de", "Wie viele?", "dreißig", 30), ("de", "Wie viele?", "einundzwanzig", 21),
        ("fr", "Combien ?", "trente", 30), ("fr", "Combien ?", "vingt et un", 21), ("fr", "Combien ?", "soixante-douze", 72),
        ("es", "¿Cuántos?", "veintiuno", 21), ("es", "¿Cuántos?", "treinta y dos", 32), ("zh", "有几个？", "二十一", 21),
        ("zh", "有几个？", "有三十五个", 35), ("fr", "Combien ?", "quatre-vingt-dix-neuf", 99), ("de", "Wie viele?", "zwanzig", 20),
        ("en", "How many?", "zwei", None), ("de", "Wie viele?", "two", None),
    ],
)  # fmt: skip
def test_counts_are_read_in_their_language(languages, question, answer, count):
    assert parse_count(answer, question, (languages,)) == count


@pytest.mark.parametrize(
    ("languages", "text", "like"),
    [
        ("de", "größer als 2 Zentimeter", ">20mm"), ("de", "zwischen 5 und 10 mm", "5-10mm"), ("de", "2,5 cm im Durchmesser", "25mm"),
        ("fr", "5 à 10 millimètres", "5-10mm"), ("fr", "moins de 5 mm", "<5mm"), ("es", "más de 2 cm", ">20mm"),
        ("zh", "大于5毫米", ">5mm"), ("zh", "5-10毫米", "5-10mm"), ("zh", "约1.5厘米", "15mm"), ("zh", "5～10毫米", "5-10mm"),
    ],
)  # fmt: skip
def test_sizes_are_read_in_their_language(languages, text, like):
    assert parse_quantity(text, None, (languages,)) == parse_quantity(like) is not None
    assert parse_quantity(text) is None or not text.isascii()


@pytest.mark.parametrize(
    ("languages", "text", "like"),
    [
        (["de"], "bis 5 mm", "<=5mm"), (["de"], "≤ 5mm", "<=5mm"), (["de"], "5 bis 10 mm", "5-10mm"), (["de"], "von 5 bis 10 mm", "5-10mm"),
        (["fr"], "jusqu'à 5 mm", "<=5mm"), (["es"], "hasta 5 mm", "<=5mm"), (["de"], "1.500 mm", "1500mm"),
        (["de"], "1.500,5 mm", "1500.5mm"),
        (["de"], "1,5 cm", "1.5 cm"), (["de"], "1.5 cm", "15mm"), (["es"], "1,250 cm", "12.5mm"), (["de"], "0.500 cm", "5mm"),
        (["en"], "1,500 mm", None), (["en"], "1.500 mm", "1.5mm"), (["en"], "1,5 cm", "15mm"), (["zh"], "1.500 毫米", "1.5mm"),
        (["de", "en"], "1.500 mm", None), (["de", "en"], "1,5 cm", "15mm"), (["de"], "1.50,5 mm", None), (["de"], "12.34.5 mm", None),
    ],
)  # fmt: skip
def test_sizes_compare_by_value_as_the_language_writes_numbers(languages, text, like):
    assert is_correct("size_numeric", like or "1500 mm", text, convention={"languages": languages}) is (like is not None)
    assert parse_quantity(text, None, tuple(languages)) == (like and parse_quantity(like))


def test_an_answer_is_judged_in_the_language_that_the_answer_space_names():
    question = "Wie viele Polypen sind zu sehen?"
    space = mine(rows_of(question, ["0", "1"] * 20), DataConfig(language="de"))
    assert conventions(space) == {"": {"languages": ["de"]}}
    rows = [{"gt": "2", "pred": "zwei", "qtype": "count_numeric", "question": text} for text in (question, "Wie viele Zangen?")]
    assert [row["correct"] for row in judge(rows, conventions=conventions(space))] == [True, True]
    assert [row["correct"] for row in judge(rows)] == [False, False], "English is the default"
    assert is_correct("count_numeric", "2", "two") and conventions(mine(rows_of("How many?", ["1"]))) == {}


def test_spaces_of_earlier_code_are_read_by_the_rules_alone():
    old = {"mode": "mined", "rows": 0, "questions": {}, "given": {}, "as_the_rules_say": {"questions": 0, "rows": 0}}
    for question in ("What did they encounter?", "Is it left or right?"):
        ask = {"question": question, "answer": "?", "image": "x", "id": "x"}
        assert apply(old, ask)["question_type"] != apply({**old, "languages": ["en"]}, ask)["question_type"]


@pytest.mark.parametrize(
    ("said", "unread"), [("de", None), ("de-AT", None), (" DE_at ", None), ("fr", "fr"), ("fr-CH", "fr"), ("", ""), (None, None), (7, "7")]
)
def test_a_row_that_says_a_language_nobody_reads_is_known_by_it(said, unread):
    assert unread_language({"language": said}, ("en", "de")) == unread and unread_language({}, ("en",)) is None
