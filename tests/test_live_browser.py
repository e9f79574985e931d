"""The live page in a real browser: clicked sums and weights, drawings, keys, reloads; no error in the console.

Skipped where Selenium or Chromium is missing, unless FASTCNN_BROWSER=required says that they must be there.
"""

import importlib
import importlib.util
import os
import re
import shutil
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

import reference
from fastcnn import Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential, Trainer
from fastcnn.data import hold_out, load_digits
from fastcnn.live import LivePage

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
MISSING = None if BROWSER and DRIVER and importlib.util.find_spec("selenium") else "Chromium, chromedriver or Selenium"
if MISSING and os.environ.get("FASTCNN_BROWSER") != "required":
    pytest.skip(f"{MISSING} is not installed", allow_module_level=True)

webdriver = importlib.import_module("selenium.webdriver")
ActionChains, Keys = webdriver.ActionChains, webdriver.Keys

X_train, X, y_train, y = hold_out(*load_digits())


def layers(module):
    return [
        module.Conv2D(6, 3, padding=1), module.ReLU(), module.MaxPool2D(2), module.Conv2D(20, 3, 2, 1, groups=2),
        module.ReLU(), module.Flatten(), module.Dense(10),
    ]  # fmt: skip


class Ours:
    """The layers of fastcnn by the names of the reference's."""

    Conv2D, Dense, Flatten, MaxPool2D, ReLU = Conv2D, Dense, Flatten, MaxPool2D, ReLU


def trained():
    model = Sequential(layers(Ours))
    Trainer(model, optimizer="adam", random_state=0).fit(X_train, y_train, epochs=3, batch_size=32, verbose=0)
    return model


@pytest.fixture(scope="module")
def model():
    return trained()


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1440,1000",
    ):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


class Seen:
    """The page as a person sees it."""

    def __init__(self, browser, page):
        self.browser, self.page = browser, page
        browser.get(page.url)
        self.until(lambda: self.frames() > 0)

    def until(self, condition):
        for _ in range(400):
            found = condition()
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError("it has not come about")

    def frames(self):
        return int(self.browser.execute_script("return Number(document.body.dataset.frames || 0)"))

    def find(self, selector):
        return self.browser.find_element("css selector", selector)

    def grid(self, key):
        """Return a canvas of maps, and where the middle of one of its numbers is, from its own middle."""
        canvas = self.until(lambda: self.browser.execute_script("return grids.get(arguments[0])?.canvas", key))
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
        return canvas

    def click(self, key, at):
        canvas = self.grid(key)
        m, i, j = at
        across, gap, scale, h, w = self.browser.execute_script(
            "const g = grids.get(arguments[0]); return [g.columns, g.gap, g.scale, g.shape[1], g.shape[2]]", key
        )
        x = ((m % across) * (w + gap) + j + 0.5) * scale
        y = ((m // across) * (h + gap) + i + 0.5) * scale
        size = canvas.size
        move = ActionChains(self.browser).move_to_element_with_offset(
            canvas, x - size["width"] / 2, y - size["height"] / 2
        )
        before = self.browser.execute_script("return last")
        move.click().perform()
        self.until(lambda: self.browser.execute_script("return last !== null") and self.shown() != before)

    def shown(self):
        return self.browser.execute_script("return last")

    def result(self):
        return float(self.find("#result").get_attribute("data-value"))

    def all_digits(self):
        box = self.find("#digits")
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", box)
        if not box.is_selected():
            box.click()

    def text(self, selector):
        return self.find(selector).text

    def errors(self):
        return [line for line in self.browser.get_log("browser") if line["level"] in ("SEVERE", "WARNING")]


@pytest.fixture
def page(model):
    with LivePage(X, y) as page:
        page.show(model)
        yield page


@pytest.fixture
def seen(browser, page):
    browser.set_window_size(1440, 1000)
    browser.get_log("browser")
    seen = Seen(browser, page)
    yield seen
    errors = seen.errors()
    browser.get("about:blank")
    assert not errors


def twins(model, x):
    """Return the reference's layers, forward done."""
    made, value = layers(reference), np.asarray(x, np.float64)[None]
    for place, layer in enumerate(made):
        layer.build(value.shape[1:])
        for name, array in layer.parameters.items():
            array[...] = model.parameters[f"{place}.{name}"]
        value = layer.forward(value)
    return made


def number(text):
    return float(text.replace("−", "-"))


def test_a_clicked_pixel_shows_the_sum_of_the_reference(seen, model):
    made = twins(model, X[0])
    for place, at in ((2, (3, 1, 2)), (0, (5, 0, 7)), (3, (6, 1, 0)), (4, (7, 0, 1))):
        seen.click(str(place), at)
        value = made[place].last_output[(0, *at)]
        assert seen.result() == value
        seen.all_digits()
        assert number(seen.text("#result")) == value  # to the last printed digit
        seen.find("#digits").click()
        assert seen.text("#result").replace("−", "-") == said(value)


def said(value):
    """Return a number as the page shows it: four digits."""
    if value == 0:
        return "0"
    text = (
        f"{value:#.4g}" if 1e-4 <= abs(value) < 1e5 else re.sub(r"e([+-])0*", r"e\1", f"{value:.2e}").replace("+", "")
    )
    return text


def test_the_sum_stands_there_number_by_number(seen, model):
    made = twins(model, X[0])
    seen.click("2", (2, 1, 1))
    seen.all_digits()
    kinds = [part.get_attribute("data-kind") for part in seen.browser.find_elements("css selector", ".step")]
    assert kinds == ["sum", "function", "choice"]
    tables = seen.browser.find_elements("css selector", ".step[data-kind=sum] .products table")
    window, weights, products = [
        [number(cell.text) for cell in table.find_elements("tag name", "td")] for table in tables
    ]
    step = seen.shown()["steps"][0]
    f, i, j = step["at"]
    padded = np.pad(X[0, 0].astype(np.float64), 1)
    assert window == padded[i : i + 3, j : j + 3].ravel().tolist()
    assert weights == made[0].filters[f, 0].ravel().tolist()
    assert products == [a * b for a, b in zip(window, weights, strict=True)]
    totals = [number(cell.text) for cell in seen.browser.find_elements("css selector", ".step[data-kind=sum] .value")]
    assert totals[1] == made[0].biases[f]
    assert totals[0] + totals[1] == totals[2] == made[0].last_output[0, f, i, j]
    chosen = seen.find(".step[data-kind=choice] td.chosen")
    assert number(chosen.text) == made[2].last_output[0, 2, 1, 1]


def test_a_number_of_the_window_is_asked_in_its_turn_and_back(seen, model):
    seen.click("3", (0, 1, 1))
    first = seen.result()
    made = twins(model, X[0])
    seen.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", seen.find(".products td button"))
    seen.find(".products td button").click()
    seen.until(lambda: seen.shown()["path"] == "2")
    assert seen.result() == made[2].last_output[(0, *seen.shown()["at"])]
    seen.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", seen.find("#back"))
    seen.find("#back").click()
    seen.until(lambda: seen.shown()["path"] == "3")
    assert seen.result() == first


def test_features_stand_in_rows_and_are_asked_by_mouse_and_keys(seen, model):
    made = twins(model, X[0])
    seen.click("5", (70, 0, 0))
    assert seen.shown()["at"] == [70]
    assert seen.result() == made[5].last_output[0, 70]
    canvas = seen.grid("5")
    across = seen.browser.execute_script("return grids.get('5').columns")
    assert 8 < across < 70  # of 80 features
    seen.browser.execute_script("arguments[0].focus()", canvas)
    ActionChains(seen.browser).send_keys(Keys.ARROW_UP, Keys.ARROW_RIGHT, Keys.ENTER).perform()
    seen.until(lambda: seen.shown()["at"] != [70])
    assert seen.shown()["at"] == [71 - across]
    seen.click("6", (7, 0, 0))
    assert seen.result() == made[6].last_output[0, 7]
    seen.click("weights 0.biases", (3, 0, 0))
    assert seen.shown()["at"] == [3]


def test_a_clicked_weight_shows_its_gradient(seen, model):
    made = twins(model, X[0])
    slope = reference.CrossEntropy().gradient(made[-1].last_output, y[:1])
    for layer in reversed(made):
        slope = layer.backward(slope)
    seen.click("weights 0.filters", (4, 2, 0))
    assert seen.result() == made[0].gradients["filters"][4, 0, 2, 0]
    for place, key, at, index in ((3, "filters", (9, 1, 1), (3, 0, 1, 1)), (6, "weights", (17, 1, 1), None)):
        button = seen.find(f"#layer-{place} > button")
        seen.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()
        seen.until(
            lambda key=f"weights {place}.{key}": seen.browser.execute_script("return grids.has(arguments[0])", key)
        )
        seen.click(f"weights {place}.{key}", at)
        assert index in (None, tuple(seen.shown()["at"]))
        assert seen.result() == made[place].gradients[key][tuple(seen.shown()["at"])]


def test_a_digit_is_drawn_with_the_mouse(seen, model, page):
    canvas = seen.find("#draw")
    seen.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    side = canvas.size["width"]
    ActionChains(seen.browser).move_to_element_with_offset(
        canvas, -side // 5, -side // 3
    ).click_and_hold().move_by_offset(2 * side // 5, 0).move_by_offset(-side // 5, 2 * side // 3).release().perform()
    seen.until(lambda: seen.text("#label") == "a drawing")
    seen.until(lambda: sum(map(bool, drawing(page))) > 10)
    time.sleep(0.3)
    seen.click("2", (1, 1, 1))
    x = page.studio.samples.drawn(drawing(page), (1, 8, 8))
    assert seen.result() == twins(model, x)[2].last_output[0, 1, 1, 1]
    seen.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", seen.find("#clear"))
    seen.find("#clear").click()
    seen.until(lambda: not any(drawing(page)))


def drawing(page):
    return next((view.drawn for view in page.studio.views.values() if view.drawn), ())


def test_all_of_it_by_keyboard(seen, model, page):
    canvas = seen.find("#draw")
    seen.browser.execute_script("arguments[0].focus()", canvas)
    ActionChains(seen.browser).send_keys(
        Keys.ARROW_DOWN, Keys.ARROW_RIGHT, Keys.SPACE, Keys.ARROW_RIGHT, Keys.SPACE
    ).perform()
    seen.until(lambda: sum(map(bool, drawing(page))) > 2)
    assert drawing(page)[8 + 1] == 1
    canvas = seen.grid("0")
    seen.browser.execute_script("arguments[0].focus()", canvas)
    ActionChains(seen.browser).send_keys(
        Keys.PAGE_DOWN, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_RIGHT, Keys.ENTER
    ).perform()
    seen.until(lambda: (seen.shown() or {}).get("path") == "0")
    assert seen.shown()["at"] == [1, 2, 1]
    assert "layer 0, 1, 2, 1" in seen.browser.execute_script(
        "return document.getElementById('said').textContent"
    ).lower() or (
        seen.browser.execute_script("return document.getElementById('said').textContent").startswith(
            "Layer 0, number (1, 2, 1)"
        )
    )


def test_a_reload_keeps_the_view(seen, page):
    seen.find("#after").click()
    seen.until(lambda: "is " in seen.text("#label") and seen.find("#number").get_attribute("value") == "1")
    seen.browser.refresh()
    seen.until(lambda: seen.frames() > 0 and seen.find("#number").get_attribute("value") == "1")
    seen.until(lambda: len(page.studio.clients) == 1)


def test_a_cell_of_the_confusion_matrix_shows_its_images(seen):
    seen.until(lambda: "360 of 360" in seen.find("#confusion").text)
    cell = seen.find("#confusion td.right button")
    seen.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", cell)
    cell.click()
    seen.until(lambda: re.fullmatch(r"(\d) taken for \1", seen.text("#choose-title")))
    thumb = seen.find("#thumbs button")
    seen.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", thumb)
    thumb.click()
    seen.until(lambda: re.fullmatch(r"is \d ✓", seen.text("#label")))


@pytest.mark.parametrize("width", [390, 820, 1440])
def test_every_width_holds_the_page(seen, width):
    seen.browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    try:
        seen.click("0", (0, 1, 1))
        wide = seen.browser.execute_script("return document.scrollingElement.scrollWidth - innerWidth")
        assert wide <= 0
    finally:
        seen.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_everything_has_a_name_for_a_screen_reader(seen):
    seen.click("2", (0, 1, 1))
    nameless = seen.browser.execute_script(
        """
        const named = one => one.ariaLabel || one.getAttribute("aria-labelledby") || one.textContent.trim() || one.title
          || (one.id && document.querySelector(`label[for="${one.id}"]`)) || one.closest("label");
        return [...document.querySelectorAll("button, input, select, canvas[tabindex], svg, section[aria-labelledby]")]
          .filter(one => !named(one)).map(one => one.outerHTML.slice(0, 100));
        """
    )
    assert nameless == []
    tree = seen.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"button", "slider", "checkbox", "spinbutton", "application", "combobox"}
    unnamed = [
        node for node in tree
        if not node.get("ignored") and node["role"]["value"] in roles and not node.get("name", {}).get("value")
    ]  # fmt: skip
    assert unnamed == []
    assert len(seen.browser.find_elements("tag name", "h1")) == 1


@contextmanager
def underway():
    """Yield a page of a training that goes on."""
    made = Trainer(Sequential(layers(Ours)), optimizer="adam", schedule="cosine", random_state=0)
    with LivePage(X, y) as page:
        arguments = {"epochs": 100000, "batch_size": 32, "X_val": X, "y_val": y, "callbacks": [page], "verbose": 0}
        thread = threading.Thread(target=made.fit, args=(X_train, y_train), kwargs=arguments)
        thread.start()
        try:
            yield made, page
        finally:
            page.studio.ask({"action": "stop"})
            thread.join(60)
            assert not thread.is_alive()


def test_a_training_is_seen_paused_stepped_and_stopped(browser):
    browser.set_window_size(1440, 1000)
    with underway() as (made, page):
        seen = Seen(browser, page)
        before = seen.frames()
        seen.until(lambda: seen.frames() > before + 5)
        seen.until(lambda: seen.browser.find_elements("css selector", "#loss polyline"))
        seen.find("#pause").click()
        seen.until(lambda: seen.text("#state") == "paused")
        step = made.steps
        seen.find("#step").click()
        seen.until(lambda: made.steps == step + 1 and f"step\n{step + 1}" in seen.text("#status"))
        seen.click("2", (0, 1, 1))  # of the network that trains
        assert seen.result() == twins(made.model, X[0])[2].last_output[0, 0, 1, 1]
        assert f"As of step {step + 1}." in seen.text("#sum")
        browser.execute_script(
            "const r = document.getElementById('rate'); r.value = -3; r.dispatchEvent(new Event('input'))"
        )
        seen.until(lambda: made.schedule is None and made.optimizer.learning_rate == 0.001)
        seen.find("#pause").click()
        seen.until(lambda: seen.text("#state") == "training" and made.steps > step + 3)
        seen.find("#stop").click()
        seen.until(lambda: seen.text("#state") == "training has ended")
        assert not seen.errors()
    seen.until(lambda: seen.text("#state") == "the process has ended")
    assert "has ended" in seen.text("#message")
    browser.get("about:blank")
