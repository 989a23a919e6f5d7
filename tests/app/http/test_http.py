"""The endpoints, over HTTP, against a real server with a real worker."""

import http.client
import io
import json
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

import model
from tests.app import pictures
from tests.app.pictures import encoded, picture
from tests.app.server import Running

pytestmark = pytest.mark.integration


def score(client: httpx.Client, data: bytes, path: str = "/score", **form: Any) -> httpx.Response:
    return client.post(path, files={"image": ("image.png", data)}, data=form)


def assert_problem(response: httpx.Response, status: int, code: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["code"] == code
    assert body["status"] == status
    assert body["detail"]
    assert body["request_id"] == response.headers["x-request-id"]


def test_score_answers_as_designed(client: httpx.Client) -> None:
    body = score(client, encoded(picture(512, 512))).json()
    assert set(body) == {
        *("quality", "mos", "mos_range", "crops", "scaled", "model"),
        *("scene", "distortion", "attributes"),
    }
    assert body["scene"] is body["distortion"] is body["attributes"] is None
    assert 0 <= body["quality"] <= 1
    assert body["crops"] == 4
    assert body["scaled"] is False
    low, high = body["mos_range"]
    assert body["mos"] == pytest.approx(low + body["quality"] * (high - low), abs=1e-3)
    assert body["model"] == {"name": "tiny-clip-agiqa", "revision": body["model"]["revision"]}


def test_score_agi_answers_all_heads_and_consistency_only_with_a_prompt(
    client: httpx.Client,
) -> None:
    with_prompt = score(client, encoded(), "/score-agi", prompt="a wave").json()
    without = score(client, encoded(), "/score-agi").json()
    empty = score(client, encoded(), "/score-agi", prompt="  ").json()
    for head in ("quality", "alignment", "consistency"):
        assert 0 <= with_prompt[head] <= 1
    assert without["consistency"] is None
    assert empty["consistency"] is None
    assert without["alignment"] == pytest.approx(with_prompt["alignment"], abs=1e-5)


def test_a_prompt_of_over_512_tokens_is_refused_and_others_are_scored(
    client: httpx.Client,
) -> None:
    longest, longer = " ".join(["dog"] * 512), " ".join(["dog"] * 513)
    assert score(client, encoded(), "/score-agi", prompt=longest).json()["consistency"] is not None
    refused = score(client, encoded(), "/score-agi", prompt=longer)
    assert_problem(refused, 422, "bad_field")
    assert "has 513 tokens" in refused.json()["detail"]
    files = [("images", (name, encoded())) for name in ("a.png", "b.png")]
    form = {"prompts": [longer, "a wave"]}
    first, second = client.post("/score-agi/batch", files=files, data=form).json()["results"]
    assert (first["code"], first["status"]) == ("bad_field", 422)
    assert second["consistency"] is not None


def test_another_prompt_gives_another_consistency(client: httpx.Client) -> None:
    answers = [
        score(client, encoded(), "/score-agi", prompt=prompt).json()
        for prompt in ("a tray of sushi", "portrait of a ghost")
    ]
    assert answers[0]["consistency"] != answers[1]["consistency"]
    assert answers[0]["quality"] == pytest.approx(answers[1]["quality"], abs=1e-5)


def test_the_service_gives_the_scorer_s_own_scores(client: httpx.Client) -> None:
    scorer = model.load("tiny-clip-agiqa", device="cpu", dtype="float32")
    image = picture(700, 410)
    alone = scorer.score(image, "a wave")
    served = score(client, encoded(image), "/score-agi", prompt="a wave").json()
    for head in ("quality", "alignment", "consistency"):
        assert served[head] == pytest.approx(getattr(alone, head), abs=1e-4)
    assert served["crops"] == alone.crops


def test_detail_adds_a_score_and_a_box_for_every_window(client: httpx.Client) -> None:
    response = client.post("/score?detail=true", files={"image": encoded(picture(512, 368))})
    crops = response.json()["crop_scores"]
    assert len(crops) == response.json()["crops"] == 4
    assert crops[0]["box"] == [0, 0, 256, 256]
    assert crops[-1]["box"] == [256, 112, 256, 256]


def test_an_image_larger_than_max_side_is_scaled_and_boxes_are_in_its_own_pixels(
    client: httpx.Client,
) -> None:
    response = client.post("/score?detail=true", files={"image": encoded(picture(2048, 1000))})
    body = response.json()
    assert body["scaled"] is True
    x, y, w, h = body["crop_scores"][-1]["box"]
    assert (x + w, y + h) == (2048, 1000)


@pytest.mark.parametrize("path", ["/score/batch", "/score-agi/batch"])
def test_a_batch_answers_in_order_and_a_bad_image_spoils_nothing(
    client: httpx.Client, path: str
) -> None:
    uploads = [("a.png", encoded(seed_picture(1))), ("bad.svg", pictures.SVG), ("c.png", encoded())]
    body = client.post(path, files=[("images", upload) for upload in uploads]).json()
    assert [item["filename"] for item in body["results"]] == ["a.png", "bad.svg", "c.png"]
    assert body["results"][1]["code"] == "unsupported_image"
    singles = [score(client, data, path.removesuffix("/batch")).json() for _, data in uploads]
    for i in (0, 2):
        assert body["results"][i]["quality"] == pytest.approx(singles[i]["quality"], abs=1e-5)


def seed_picture(seed: int) -> Image.Image:
    return picture(seed=seed)


def test_batch_prompts_belong_to_their_images_and_an_empty_one_is_none(
    client: httpx.Client,
) -> None:
    files = [("images", (f"{i}.png", encoded())) for i in range(3)]
    prompts = {"prompts": ["a wave", "", "a portrait"]}
    results = client.post("/score-agi/batch", files=files, data=prompts).json()["results"]
    values = [item["consistency"] for item in results]
    assert values[1] is None
    assert values[0] != values[2]


def test_a_wrong_number_of_prompts_is_refused(client: httpx.Client) -> None:
    files = [("images", (f"{i}.png", encoded())) for i in range(3)]
    response = client.post("/score-agi/batch", files=files, data={"prompts": ["one", "two"]})
    assert_problem(response, 422, "bad_field")


def test_more_than_64_images_are_refused(client: httpx.Client) -> None:
    files = [("images", (f"{i}.png", b"x")) for i in range(65)]
    assert_problem(client.post("/score/batch", files=files), 422, "bad_field")


def test_a_batch_that_does_not_fit_at_once_is_served_in_parts(client: httpx.Client) -> None:
    big = encoded(picture(1024, 1024), "JPEG")
    files = [("images", (f"{i}.jpg", big)) for i in range(32)]  # 17 crops each, the arena holds 340
    answer = client.post("/score/batch", files=files)
    assert answer.status_code == 200
    assert [result["crops"] for result in answer.json()["results"]] == 32 * [16]


BAD = {
    "truncated JPEG": (encoded(form="JPEG")[:2000], 400, "unreadable_image"),
    "truncated PNG": (encoded()[:5000], 400, "unreadable_image"),
    "bomb by its header": (pictures.png_header(50_000, 50_000), 413, "too_large"),
    "SVG": (pictures.SVG, 415, "unsupported_image"),
    "zip": (pictures.zipped(), 415, "unsupported_image"),
    "text": (b"hello", 415, "unsupported_image"),
    "empty": (b"", 400, "unreadable_image"),
    "20000 x 1": (encoded(Image.new("RGB", (20_000, 1))), 422, "bad_aspect"),
}


@pytest.mark.parametrize(("data", "status", "code"), BAD.values(), ids=BAD.keys())
def test_a_bad_upload_gets_its_code(
    client: httpx.Client, data: bytes, status: int, code: str
) -> None:
    assert_problem(score(client, data), status, code)


GOOD = {
    "CMYK JPEG": encoded(picture().convert("CMYK"), "JPEG"),
    "16-bit PNG": pictures.sixteen_bit(),
    "palette": encoded(picture().convert("P")),
    "alpha": encoded(picture().convert("RGBA")),
    "greyscale and alpha": encoded(picture().convert("LA")),
    "1 x 1": encoded(Image.new("RGB", (1, 1), "red")),
    "50 : 1": encoded(Image.new("RGB", (1000, 20), "red")),
    "animated GIF": pictures.animated("GIF"),
    "animated WebP": pictures.animated("WEBP"),
    "TIFF": encoded(form="TIFF"),
    "BMP": encoded(form="BMP"),
    "bilevel": encoded(picture().convert("1")),
}


@pytest.mark.parametrize("data", GOOD.values(), ids=GOOD.keys())
def test_an_odd_but_good_upload_gets_a_score(client: httpx.Client, data: bytes) -> None:
    response = score(client, data)
    assert response.status_code == 200, response.text
    assert 0 <= response.json()["quality"] <= 1


def test_an_exif_rotated_image_scores_as_it_is_seen(client: httpx.Client) -> None:
    upright = picture(300, 500)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    answers = [score(client, encoded(upright)), score(client, encoded(turned, exif=exif.tobytes()))]
    first, second = (answer.json()["quality"] for answer in answers)
    assert first == pytest.approx(second, abs=1e-5)


def test_the_first_frame_of_an_animation_is_what_counts(client: httpx.Client) -> None:
    still = Image.open(io.BytesIO(pictures.animated("GIF"))).convert("RGB")
    answers = [score(client, pictures.animated("GIF")), score(client, encoded(still))]
    first, second = (answer.json()["quality"] for answer in answers)
    assert first == pytest.approx(second, abs=1e-5)


@pytest.mark.parametrize(
    ("kwargs", "status", "code"),
    [
        ({"url": "/score"}, 422, "bad_field"),
        ({"url": "/score", "data": {"image": "no file"}}, 422, "bad_field"),
        ({"url": "/score?model=none", "files": {"image": b"x"}}, 404, "unknown_model"),
        ({"url": "/score?detail=perhaps", "files": {"image": b"x"}}, 422, "bad_field"),
        (
            {"url": "/score", "files": {"image": b"x"}, "headers": {"X-Request-Timeout": "soon"}},
            422,
            "bad_field",
        ),
        (
            {"url": "/score-agi", "files": {"image": encoded()}, "data": {"prompt": "x" * 4097}},
            422,
            "bad_field",
        ),
        (
            {
                "url": "/score",
                "content": b"--x\r\nnonsense",
                "headers": {"Content-Type": "multipart/form-data; boundary=x"},
            },
            422,
            "bad_field",
        ),
    ],
    ids=["no form", "text field", "model", "detail", "timeout", "prompt", "broken form"],
)
def test_a_bad_request_says_what_to_do(
    client: httpx.Client, kwargs: dict[str, Any], status: int, code: str
) -> None:
    assert_problem(client.post(**kwargs), status, code)


def test_unknown_addresses_and_methods_are_problems_too(client: httpx.Client) -> None:
    assert_problem(client.get("/nothing"), 404, "not_found")
    assert_problem(client.put("/score"), 405, "method_not_allowed")


def test_an_upload_over_the_limit_is_refused_by_its_declared_length(service: Running) -> None:
    connection = http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=30)
    connection.putrequest("POST", "/score")
    connection.putheader("Content-Type", "multipart/form-data; boundary=x")
    connection.putheader("Content-Length", str(2**40))
    connection.endheaders()  # and not a byte of the body
    answer = connection.getresponse()
    assert answer.status == 413
    assert json.loads(answer.read())["code"] == "too_large"
    connection.close()


def test_an_upload_over_the_limit_is_refused_while_it_streams(client: httpx.Client) -> None:
    def body() -> Any:
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(34):
            yield bytes(2**20)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert_problem(client.post("/score", content=body(), headers=headers), 413, "too_large")


def test_an_expired_deadline_is_a_504(client: httpx.Client) -> None:
    data = encoded(picture(1024, 1024), "JPEG")
    headers = {"X-Request-Timeout": "0.001"}
    response = client.post("/score", files={"image": data}, headers=headers)
    assert_problem(response, 504, "deadline")


def test_the_request_id_of_the_client_is_kept_and_a_strange_one_is_not(
    client: httpx.Client,
) -> None:
    kept = client.get("/livez", headers={"X-Request-ID": "trace-1"})
    made = client.get("/livez", headers={"X-Request-ID": 'a"b c'})
    assert kept.headers["x-request-id"] == "trace-1"
    assert made.headers["x-request-id"] not in {"", 'a"b c'}


def test_models_describes_what_is_loaded(client: httpx.Client) -> None:
    (described,) = client.get("/models").json()["models"]
    assert described["name"] == "tiny-clip-agiqa"
    assert described["method"] == "clip-agiqa"
    assert described["trained_on"] == ["AGIQA-3K", "LIVE-Challenge"]
    assert described["metrics"]["srcc"] >= 0.70
    assert described["score_range"] == [0.0, 5.0]
    assert described["crop_policy"]["kind"] == "grid"
    assert described["heads"] == ["quality", "alignment", "consistency"]
    assert described["default_for"] == ["/score", "/score-agi"]


def test_the_documentation_names_every_endpoint(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    wanted = {"/score", "/score-agi", "/score/batch", "/score-agi/batch", "/models", "/livez"}
    assert wanted | {"/readyz"} <= set(paths)
    assert client.get("/docs").status_code == 200
    assert client.get("/", follow_redirects=True).status_code == 200


def test_every_upload_is_counted_once_with_its_status(service: Running) -> None:
    before = service.metric("agiqa_requests_total", endpoint="/score", code="415")
    failures = service.metric("agiqa_request_failures_total", reason="unsupported")
    score(service.client, b"nothing")
    after = service.metric("agiqa_requests_total", endpoint="/score", code="415")
    assert after - before == 1
    assert service.metric("agiqa_request_failures_total", reason="unsupported") - failures == 1


def test_computed_crops_and_cached_prompts_are_counted(service: Running) -> None:
    def counts() -> list[float]:
        crops = service.metric("agiqa_crops_processed_total")
        cache = [
            service.metric("agiqa_prompt_cache_requests_total", result=result)
            for result in ("hit", "miss")
        ]
        return [crops, *cache]

    before = counts()
    for _ in range(2):
        score(
            service.client, encoded(picture(224, 224)), "/score-agi", prompt="seen twice only here"
        )
    # per image: one window and the whole image, each in two passes
    assert np.subtract(counts(), before).tolist() == [8, 1, 1]


def test_nothing_internal_leaks(client: httpx.Client) -> None:
    for data, _, _ in BAD.values():
        text = json.dumps(score(client, data).json())
        assert "Traceback" not in text
        assert ".py" not in text
        assert "PIL" not in text


@pytest.mark.parametrize("path", ["/", "/static/main.js", "/livez", "/models", "/nothing"])
def test_every_answer_forbids_guessing_its_type_and_keeps_the_server_s_name(
    client: httpx.Client, path: str
) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "server" not in headers
