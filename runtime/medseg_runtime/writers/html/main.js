"use strict";
showReport(loaded(JSON.parse(document.getElementById("report").textContent)))
  .then(() => { document.body.dataset.ready = "true"; })
  .catch((error) => {
    document.getElementById("summary").textContent =
      "This browser cannot show the report. Open it in a version of Chromium, Firefox or Safari from 2023 or later.";
    throw error;
  });
