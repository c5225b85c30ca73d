"""Whatever a user gets wrong: one sentence on stderr, nothing on stdout, exit 2, and nothing written."""

import pytest

from rnnvg import tasks

TASKS = ", ".join(tasks.NAMES)
CELLS = "rnn, lstm, gru, rnn-relu, leaky, residual, layer-norm, mingru, lru, lem, attention, tcn"
TEXT = "`--text` is what next-word reads"
CASES = {
    # unknown names
    "compare --tasks adding,coppy": f"`--tasks` has no 'coppy'. Did you mean 'copy'? Pass one of: {TASKS}.",
    "compare --cells lsmt": f"`--cells` has no 'lsmt'. Did you mean 'lstm'? Pass one of: {CELLS}.",
    "compare --cells ,": f"`--cells` is empty. Pass names with commas between them: {CELLS.replace(', ', ',')}.",
    "profile --cell leaky --why": "`--why` knows the gates and equations of PyTorch's cells; got cell 'leaky'. Leave it out.",
    "profile --task addin": f"`--task` has no 'addin'. Did you mean 'adding'? Pass one of: {TASKS}.",
    "profile --cell elman": f"`--cell` has no 'elman'. Did you mean 'lem'? Pass one of: {CELLS}.",
    "train --init chronos": "`--init` has no 'chronos'. Did you mean 'chrono'? "
    "Pass one of: default, orthogonal, identity, forget-bias, chrono, keras, xavier.",
    "train --optimizer adm": "`--optimizer` has no 'adm'. Did you mean 'adam'? Pass one of: adam, rmsprop, sgd.",
    "profile --wrt inputs": "`--wrt` has no 'inputs'. Did you mean 'input'? "
    "Pass one of: state, hidden, cell, input, covariance.",
    "tasks show cpoy": f"`task` has no 'cpoy'. Did you mean 'copy'? Pass one of: {TASKS}.",
    "tasks describe sums": f"`task` has no 'sums'. Pass one of: {TASKS}.",
    # settings
    "profile --set lenght=5": "Task 'adding' has no setting 'lenght'. Did you mean 'length'? "
    "Its settings are: length, marks, values.",
    "train --set lenght=5": "Task 'adding' has no setting 'lenght'. Did you mean 'length'? "
    "Its settings are: length, marks, values.",
    "tasks show copy --length 5": "Task 'copy' has no setting 'length'. "
    "Its settings are: delay, n_symbols, recall, delimiter, scored.",
    "profile --length -5": "`length` must be a whole number of at least 2; got -5.",
    "train --task copy --delay -1": "`delay` must be a whole number of at least 1; got -1.",
    "train --set length=many": "`length` must be a whole number of at least 2; got 'many'.",
    "train --set marks=any": "`marks` has no 'any'. Did you mean 'anywhere'? Pass one of: one-in-each-half, anywhere.",
    "train --set length": "`--set` takes NAME=VALUE; got 'length'. For example: --set length=100.",
    # counts and numbers
    "compare --seeds 0": "`--seeds` must be a whole number of at least 1; got 0.",
    "compare --seeds three": "`--seeds` must be a whole number of at least 1; got 'three'.",
    "compare --jobs 0": "`--jobs` must be a whole number of at least 1; got 0.",
    "compare --max-steps 0": "`--max-steps` must be a whole number of at least 1; got 0.",
    "profile --hidden 0": "`--hidden` must be a whole number of at least 1; got 0.",
    "profile --sequences -3": "`--sequences` must be a whole number of at least 1; got -3.",
    "train --lr 0": "`--lr` must be a finite number above 0; got 0.",
    "train --lr fast": "`--lr` must be a finite number above 0; got 'fast'.",
    "train --dropout 1": "`dropout` must be below 1; got 1.0.",
    "profile --sources first": "`--sources` takes last, all, a count, or a list such as 10,-1; got 'first'.",
    # combinations
    "compare --tasks copy --text agreement": f"{TEXT}, which is not among --tasks. Leave it out, or add the task.",
    "train --task copy --text agreement": f"{TEXT}; got it with --task copy. Leave out one of the two.",
    "train --bptt 5": "`--bptt` cuts a text into windows, and adding is not a text. Leave it out.",
    "train --tied": "`tied` shares an embedding with the readout; task 'adding' has none. Pass tied=False.",
    "train --cell gru --init identity": "`init` 'identity' makes the one recurrent matrix of a network without gates the "
    "identity and does not fit cell 'gru'. It fits: rnn, rnn-relu.",
    "profile --cell gru --wrt cell": "`wrt` is 'cell', but this recurrence has no cell state; pass 'state' or 'hidden'.",
    "compare --cells lstm gru": "Got unexpected extra argument (gru). Names go together with commas: --cells lstm,gru."
    "\nTry: rnnvg compare --help",
    "compare --tasks adding, copy": "Got unexpected extra argument (copy). "
    "Names go together with commas: --tasks adding,copy.\nTry: rnnvg compare --help",
    "compare --tasks adding,copy --set lenght=5": "None of the tasks adding, copy has a setting 'lenght'. "
    "Did you mean 'length'? They have: delay, delimiter, length, marks, n_symbols, recall, scored, values.",
    "compare --tasks adding --length 1": "`length` must be a whole number of at least 2; got 1.",
    # texts
    "compare --text nowhere.txt": "`text` has no 'nowhere.txt'. Pass one of agreement, shakespeare, or a file or directory.",
    "train --text shakespear": "`text` has no 'shakespear'. Did you mean 'shakespeare'? "
    "Pass one of agreement, shakespeare, or a file or directory.",
    "compare --text empty.txt": "The text 'empty.txt' is empty: it holds no words; pass a file with text in it.",
    "compare --text binary.txt": "'binary.txt' is not a text: byte 3 is NUL; pass a UTF-8 text file.",
    "train --text latin1.txt": "The text 'latin1.txt' is not UTF-8 at byte 3 (0xe9); save it as UTF-8.",
    "compare --text short.txt": "The text 'short.txt' holds 5 words, fewer than one sequence of 35 and the word after it; "
    "pass a longer text or a smaller `bptt`.",
    "profile --text folder": "The directory 'folder' has no train file; name it as one of: "
    "ptb.train.txt, wiki.train.tokens, wiki.train.raw, train.txt.",
    # files
    "profile --weights nowhere": "There is no run 'nowhere'; pass the folder of a run, or its weights.safetensors.",
    "profile --figure missing/curve.png": "`--figure` 'missing/curve.png' is in the folder 'missing', which does not exist. "
    "Make it, or pass another path.",
    "profile --figure curve.bmp": "`--figure` 'curve.bmp' must end in one of .png, .svg, .pdf.",
    "profile --csv curve.txt": "`--csv` 'curve.txt' must end in .csv.",
    "profile --csv folder.csv": "`--csv` 'folder.csv' is a folder. Pass the path of a file.",
    "report nowhere": "`directory` 'nowhere' does not exist. "
    "Run `rnnvg compare --out nowhere` first, or pass a directory that rnnvg wrote.",
    "report folder": "`directory` 'folder' holds no results. "
    "Run `rnnvg compare --out folder` first, or pass a directory that rnnvg wrote.",
    "compare --tasks adding --out empty.txt": "`out` 'empty.txt' is not a folder. Pass another --out; what is done is kept.",
    "train --out empty.txt": "`out` 'empty.txt' is not a folder. Pass another --out; what is done is kept.",
}


@pytest.mark.parametrize(("line", "sentence"), CASES.items(), ids=list(CASES))
def test_one_sentence_exit_2_nothing_written(line, sentence, rnnvg, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "empty.txt").touch()
    (tmp_path / "binary.txt").write_bytes(b"to \0be")
    (tmp_path / "latin1.txt").write_bytes("caf\u00e9 au lait".encode("latin-1"))
    (tmp_path / "short.txt").write_text("to be or not to")
    before = sorted(tmp_path.rglob("*"))
    told = rnnvg(*line.split(" "), *(["--quiet"] if line.split()[0] not in ("tasks",) else []))
    assert told.stderr == f"Error: {sentence}\n"
    assert told.stdout == ""
    assert told.exit_code == 2
    assert sorted(tmp_path.rglob("*")) == before
