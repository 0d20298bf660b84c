"""One function per published dataset, one module per family of them, and one for tables; data/readers.py calls the functions.

A module tells where its datasets' rows, images, splits and groups lie, with source_files.py and common.py.

A reader takes a Request and returns `(image_root, records)`. `records` yields `(where, record)` for every row of the
source, `where` being its file and line; a record has `image`, `question`, `answer` and any further keys of the output
row. `junk` says why a row is dropped without --keep-junk, `drop` why it always is; such a row needs no image.
The first line of a reader's docstring is its line in --help. "To be checked" marks what nobody here has seen.
"""

from data.formats.cholec import read_cholec80_vqa, read_ssg_vqa
from data.formats.clips import read_real_colon_vqa, read_surgvu
from data.formats.conversations import read_conversations, read_surgcheck
from data.formats.endovis import read_endovis_18_vqa, read_endovis_single_phrase, read_endovis_vqla
from data.formats.kvasir import read_kvasir_vqa, read_kvasir_vqa_json, read_kvasir_vqa_x1
from data.formats.literature import read_path_vqa, read_pmc_vqa
from data.formats.pitvqa import read_pitvqa
from data.formats.psi_ava import read_psi_ava_vqa
from data.formats.radiology import read_slake, read_vqa_rad
from data.formats.table import read_table

FORMATS = {
    "table": read_table,
    "conversations": read_conversations,
    "kvasir-vqa": read_kvasir_vqa,
    "kvasir-vqa-json": read_kvasir_vqa_json,
    "kvasir-vqa-x1": read_kvasir_vqa_x1,
    "endovis-18-vqa": read_endovis_18_vqa,
    "endovis-vqla": read_endovis_vqla,
    "endovis-single-phrase": read_endovis_single_phrase,
    "cholec80-vqa": read_cholec80_vqa,
    "ssg-vqa": read_ssg_vqa,
    "pitvqa": read_pitvqa,
    "psi-ava-vqa": read_psi_ava_vqa,
    "surgcheck": read_surgcheck,
    "surgvu": read_surgvu,
    "real-colon-vqa": read_real_colon_vqa,
    "vqa-rad": read_vqa_rad,
    "slake": read_slake,
    "path-vqa": read_path_vqa,
    "pmc-vqa": read_pmc_vqa,
}
