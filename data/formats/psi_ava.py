"""PSI-AVA-VQA: frame|question|answer, one text file a task."""

if __name__ == "__main__":
    raise SystemExit("not a command; README.md names what is run")

import re
import unicodedata

from data.formats import source_files as source


def read_psi_ava_vqa(request):
    """PSI-AVA-VQA (2023): robotic prostatectomy, Spanish labels; licence to be checked

    Seenivasan et al. 2023, https://github.com/lalithjets/SurgicalGPT. SRC holds Train/ and Val/, each with
    C1_location.txt, C2_action.txt, C3_phase.txt and C4_step.txt, and keyframes/ with the frames that the lines name.
    Text is put into Unicode NFC: label lists compare `Vesículas_Seminales` letter by letter. C2 is dropped, as by the
    official training and evaluation. Official train and val; `category` is the file's name; group: CASEnnn where the
    frame's name has it (to be checked), else none.
    """
    folder, paths = source.dataset_files(request.src, "*/C[1-4]_*.txt", "the folder PSI-AVA-VQA")
    root = request.images or folder

    def rows():
        for path in paths:
            facts = {"split": source.split_in_name(path.parent), "category": path.stem}
            if path.stem.startswith("C2"):
                facts["junk"] = f"of {path.stem}, which the official evaluation leaves out"
            for where, (frame, *texts) in source.bar_lines(path, "frame|question|answer"):
                question, answer = (unicodedata.normalize("NFC", text) for text in texts)
                case = re.search(r"CASE\d+", frame)
                image = source.find_image(root, f"keyframes/{frame}", frame)
                group = {"group": case.group()} if case else {}
                yield where, {"image": image, "question": question, "answer": answer, **group, **facts}

    return root, rows()
