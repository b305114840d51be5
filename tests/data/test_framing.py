import io
import pickle

import pytest
import torch
from datasets import Dataset, Image, List
from PIL import Image as PILImage
from PIL import ImageDraw
from transformers import CLIPImageProcessorPil, LlavaImageProcessorPil
from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

import tiny
from deep_images import MODES, deep_rows, in_8_bit_files
from fedvlm_hf import FederatedConfig, FederatedTrainer
from fedvlm_hf.data.boxes import box_text, parse_box
from fedvlm_hf.data.frames import Frame, frame_rule
from fedvlm_hf.data.framing import (
    PreparingCollator,
    check_visible,
    in_model_frame,
    in_stored_frame,
    prepare_row,
    row_frames,
    wrap_collator,
)
from fedvlm_hf.evaluation import PreparedEvaluation, prompt_inputs


SIDE = 16
SQUARE = {"height": SIDE, "width": SIDE}
LANDSCAPE, PORTRAIT = (40, 20), (20, 40)
CROPS = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SQUARE)
PADS = LlavaImageProcessorPil(do_pad=True, do_center_crop=False, size=SQUARE, crop_size=SQUARE)
STRETCHES = CLIPImageProcessorPil(size=SQUARE, crop_size=SQUARE)

# the stored box, and what becomes of it where 40 x 20 and 20 x 40 are cropped (v -> 2 v - 0.5 along the long side) and
# where they are padded (v -> 0.25 + v / 2 along the short side)
STORED = "[0.300, 0.200, 0.600, 0.800]"
MAPPED = {
    ("crops", LANDSCAPE): "[0.100, 0.200, 0.700, 0.800]",
    ("crops", PORTRAIT): "[0.300, 0.000, 0.600, 1.000]",  # -0.1 to 1.1: clipped
    ("pads", LANDSCAPE): "[0.300, 0.350, 0.600, 0.650]",
    ("pads", PORTRAIT): "[0.400, 0.200, 0.550, 0.800]",
}
STEPS = {"crops": CROPS, "pads": PADS, "stretches": STRETCHES}


def processor_that(step: str):
    processor = tiny.tiny_processor(SIDE)
    processor.image_processor = STEPS[step]
    return processor


def picture(size: tuple[int, int], box: str) -> PILImage.Image:
    width, height = size
    image = PILImage.new("RGB", size, (90, 90, 90))
    x1, y1, x2, y2 = parse_box(box)
    ImageDraw.Draw(image).rectangle((x1 * width, y1 * height, x2 * width - 1, y2 * height - 1), fill="red")
    return image


def grounding_rows(sizes, boxes=None, question="Where is red?") -> Dataset:
    boxes = boxes or [STORED] * len(sizes)
    rows = [
        {
            "id": str(index),
            "images": [picture(size, box)],
            "prompt": [{"role": "user", "content": question.format(box=box)}],
            "completion": [{"role": "assistant", "content": box}],
            "task": "grounding",
            "references": [box],
        }
        for index, (size, box) in enumerate(zip(sizes, boxes, strict=True))
    ]
    return Dataset.from_list(rows, features=tiny.FEATURES)


def labels_of(batch, processor) -> list[str]:
    texts = [row[row != -100] for row in batch["labels"]]
    return [text.removesuffix(tiny.EOS) for text in processor.tokenizer.batch_decode(texts)]


@pytest.mark.parametrize(("step", "size"), MAPPED)
def test_boxes_in_questions_and_labels_are_those_that_the_model_sees(step, size):
    """Two boxes in the question: what stands around them stays, and so do lists that are not of the strict form."""
    processor = processor_that(step)
    question = "Is {box} as large as {box}, and not [0.3, 0.2, 0.6, 0.8] or [x1, y1, x2, y2]?"
    rows = grounding_rows([size], question=question)
    collator = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)
    batch = PreparingCollator(collator, frame_rule(processor))([dict(rows[0])])
    expected = MAPPED[step, size]
    assert labels_of(batch, processor) == [expected]
    asked = f"user: {question.format(box=expected)}\nassistant: "
    for ids in (batch["input_ids"][0], prompt_inputs(processor, rows)["input_ids"][0]):
        assert asked in processor.tokenizer.decode(ids, skip_special_tokens=True)


def test_the_mapped_box_is_where_the_model_sees_the_object():
    """The brightest pixels of the first channel, against the mapped box: 16 pixels a side, so within 1/16."""
    for (step, size), expected in MAPPED.items():
        pixels = prompt_inputs(processor_that(step), grounding_rows([size]))["pixel_values"][0, 0]
        rows, columns = torch.nonzero(pixels > pixels.max() - 0.5 * (pixels.max() - pixels.min()), as_tuple=True)
        seen = (columns.min() / SIDE, rows.min() / SIDE, (columns.max() + 1) / SIDE, (rows.max() + 1) / SIDE)
        assert torch.tensor(seen).tolist() == pytest.approx(parse_box(expected), abs=1 / SIDE)


def test_nothing_happens_where_the_whole_is_seen():
    """Without a rule, and with a rule and a square picture, the collator gets the very same rows."""
    rows = [grounding_rows([LANDSCAPE])[0], grounding_rows([(30, 30)])[0]]
    collator = wrap_collator(list, processor_that("stretches"), {"a": grounding_rows([LANDSCAPE])})
    assert all(given is row for given, row in zip(collator(rows), rows, strict=True))
    row = rows[1]
    assert prepare_row(row, frame_rule(CROPS)) is row
    assert in_model_frame(row, frame_rule(CROPS)) is row
    imageless = {"images": [], "prompt": row["prompt"]}
    assert in_model_frame(imageless, frame_rule(CROPS)) is imageless


@pytest.mark.parametrize("mode", MODES)
def test_deep_images_reach_the_model_with_their_content(mode):
    """Without the preparation, every value of a radiograph becomes that of white, (1 - 0.5) / 0.5 = 1."""
    processor = tiny.tiny_processor(SIDE)
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    processor.image_processor = CLIPImageProcessorPil(size=SQUARE, do_center_crop=False, **half)
    collator = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)
    rows = deep_rows(3, mode)
    assert (collator([*rows])["pixel_values"] == 1).all()
    batch = wrap_collator(collator, processor, {"a": rows})([*rows])
    expected = collator([*in_8_bit_files(rows)])
    assert batch.keys() == expected.keys()
    assert all(torch.equal(batch[name], expected[name]) for name in expected)
    assert batch["pixel_values"].std() > 0.3
    assert torch.equal(prompt_inputs(processor, rows)["pixel_values"], expected["pixel_values"])


def test_rows_are_left_as_they_are():
    row = grounding_rows([LANDSCAPE])[0]
    mapped = in_model_frame(row, frame_rule(CROPS))
    assert mapped["completion"][0]["content"] == MAPPED["crops", LANDSCAPE]
    assert row["completion"][0]["content"] == STORED
    assert {**mapped, "prompt": row["prompt"], "completion": row["completion"]} == row


def test_a_box_out_of_sight_is_mapped_to_the_nearest_that_is_seen():
    row = grounding_rows([LANDSCAPE], ["[0.000, 0.200, 0.100, 0.800]"])[0]
    assert in_model_frame(row, frame_rule(CROPS))["completion"][0]["content"] == "[0.000, 0.200, 0.001, 0.800]"


def test_the_collator_reaches_worker_processes():
    collator = PreparingCollator(list, frame_rule(CROPS))
    (row,) = pickle.loads(pickle.dumps(collator))([grounding_rows([LANDSCAPE])[0]])
    assert row["completion"][0]["content"] == MAPPED["crops", LANDSCAPE]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("[0.100, 0.200, 0.700, 0.800]", STORED),
        ("at [.1,0.2, .7, 0.8].", f"at {STORED}."),
        ("[0, 0, 1, 1] [0.1, 0.2, 0.7, 0.8]", f"[0.250, 0.000, 0.750, 1.000] {STORED}"),
        ("[-0.5, 0, 2.5, 1]", "[0.000, 0.000, 1.500, 1.000]"),
        ("[0.7, 0.2, 0.1, 0.8]", "[0.7, 0.2, 0.1, 0.8]"),  # no box: it counts 0 wherever it is
        ("[0.1, 0.2] red", "[0.1, 0.2] red"),
        ("", ""),
    ],
)
def test_answers_come_back(answer, expected):
    """x -> (x + 0.5) / 2: the way back from the crop."""
    assert in_stored_frame(answer, frame_rule(CROPS)(*LANDSCAPE)) == expected


@pytest.mark.parametrize("step", ["crops", "pads"])
@pytest.mark.parametrize("size", [LANDSCAPE, PORTRAIT, (33, 29)])
def test_there_and_back_is_within_rounding(step, size):
    """Half a thousandth of a frame that pads is a thousandth of the stored picture, and as much is rounded again. In
    one that crops it is less than half a thousandth, so the very same text comes back."""
    rule = frame_rule(STEPS[step])
    for edge in range(380, 700, 7):
        box = box_text((0.3, 0.3, edge / 1000, 1 - edge / 1000 if edge < 500 else 0.701))
        row = in_model_frame(grounding_rows([size], [box])[0], rule)
        back = in_stored_frame(row["completion"][0]["content"], rule(*size))
        assert row["completion"][0]["content"] != box
        assert back == box or (step == "pads" and parse_box(back) == pytest.approx(parse_box(box), abs=0.00101))


def encoded(image: PILImage.Image, **options) -> dict:
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return {"bytes": buffer.getvalue(), "path": None}


def test_sizes_are_those_of_the_decoded_images(tmp_path):
    """A camera held upright writes 40 x 20 and "turn it": it decodes as 20 x 40. Files and bytes alike."""
    turned = PILImage.Exif()
    turned[0x0112] = 6
    picture(LANDSCAPE, STORED).save(tmp_path / "file.png")
    images = [
        encoded(picture(LANDSCAPE, STORED), format="PNG"),
        encoded(picture((30, 30), STORED), format="PNG"),
        encoded(picture(LANDSCAPE, STORED), format="JPEG", exif=turned),
        {"bytes": None, "path": str(tmp_path / "file.png")},
    ]
    rows = Dataset.from_dict({"images": [[image] for image in images] * 20}).cast_column("images", List(Image()))
    rule = frame_rule(CROPS)
    frames = row_frames(rows, rule, range(2, 80))
    assert len(frames) == 78 - 19
    for row, frame in frames.items():
        assert frame == rule(*rows[row]["images"][0].size)
    assert frames[2] == Frame((1.0, 2.0), (0.0, -0.5))
    assert frames[3] == Frame((2.0, 1.0), (-0.5, 0.0))
    assert row_frames(rows, rule, []) == {}


def test_training_on_what_is_cropped_away_is_refused():
    """In 40 x 20 columns 10 to 30 are seen, so boxes left of 0.25 and right of 0.75 are not: rows 1 and 3 of b; and
    row 0 of c asks about such a box."""
    hidden = "[0.000, 0.200, 0.250, 0.800]"
    b = grounding_rows([LANDSCAPE] * 4, [STORED, hidden, STORED, "[0.760, 0.100, 0.900, 0.900]"])
    c = grounding_rows([LANDSCAPE], [hidden], question="What is in {box}?").map(
        lambda row: {"completion": [{"role": "assistant", "content": "red"}]}
    )
    clients = {"a": grounding_rows([PORTRAIT, (30, 30)], [hidden] * 2), "b": b, "c": c}
    message = (
        r"`train_dataset`: 3 rows have a box .* CLIPImageProcessorPil, crops away.*client 'b' row 1, "
        r"\[0\.000, 0\.200, 0\.250, 0\.800\]\. Use .*build-llava.*do_center_crop=False.*pad_to_square"
    )
    with pytest.raises(ValueError, match=message):
        check_visible(clients, frame_rule(CROPS))
    check_visible(clients, frame_rule(PADS))
    check_visible({"a": clients["a"], "d": tiny.tiny_rows(3)}, frame_rule(CROPS))


def trainer_for(step: str, clients: dict, tmp_path, **settings) -> FederatedTrainer:
    model, _ = tiny.tiny_llava(0)
    args = FederatedConfig(
        output_dir=str(tmp_path), num_rounds=1, max_steps=1, bf16=False, use_cpu=True, disable_tqdm=True, **settings
    )
    return FederatedTrainer(model, args, clients, eval_dataset=clients["a"], processing_class=processor_that(step))


def test_the_trainer_trains_on_mapped_boxes(tmp_path):
    clients = {"a": grounding_rows([LANDSCAPE, PORTRAIT]), "b": grounding_rows([(30, 30)])}
    trainer = trainer_for("pads", clients, tmp_path, per_device_train_batch_size=2)
    batch = next(iter(trainer.get_train_dataloader()))
    expected = [MAPPED["pads", LANDSCAPE], MAPPED["pads", PORTRAIT]]
    assert sorted(labels_of(batch, trainer.processing_class)) == sorted(expected)


def test_the_trainer_refuses_before_training(tmp_path):
    clients = {"a": grounding_rows([LANDSCAPE], ["[0.000, 0.200, 0.250, 0.800]"])}
    with pytest.raises(ValueError, match="1 rows have a box"):
        trainer_for("crops", clients, tmp_path)


def train(model, collator, rows: Dataset, steps: int) -> None:
    """Plain full-batch training of all weights."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
    model.train()
    for _ in range(steps):
        loss = model(**collator([dict(row) for row in rows])).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


@pytest.mark.parametrize("step", ["crops", "pads"])
def test_a_model_that_learnt_its_rows_by_heart_scores_one(step):
    """What it says are the mapped boxes, so the scores against the stored ones are 1 only if they are mapped back."""
    model, _ = tiny.tiny_llava(0)
    processor = processor_that(step)
    rows = grounding_rows([LANDSCAPE, PORTRAIT], [STORED, "[0.200, 0.300, 0.800, 0.600]"])
    rows = rows.map(lambda row: {"prompt": [{"role": "user", "content": f"Where is {row['id']}?"}]})
    plain = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)
    train(model, wrap_collator(plain, processor, {"a": rows}), rows, steps=150)
    result = PreparedEvaluation(rows, processor).run(model)
    assert [[generation.prediction] for generation in result.generations] == rows["references"][:]
    assert result.scores == {"grounding_mean_iou": 1.0, "grounding_accuracy_at_50": 1.0}

    inputs = prompt_inputs(processor, rows)
    tokens = model.generate(**inputs, max_new_tokens=40)[:, inputs["input_ids"].shape[1] :]
    said = processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    assert said == labels_of(PreparingCollator(plain, frame_rule(processor))([*rows]), processor)
    assert said[0] == MAPPED[step, LANDSCAPE] != STORED
