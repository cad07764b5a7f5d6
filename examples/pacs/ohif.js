window.config = {
  "routerBasename": "/",
  "showStudyList": true,
  "investigationalUseDialog": { "option": "never" },
  "extensions": [],
  "modes": [],
  "defaultDataSourceName": "pacs",
  "dataSources": [
    {
      "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
      "sourceName": "pacs",
      "configuration": {
        "friendlyName": "The server beside this page",
        "qidoRoot": "/dicom-web",
        "wadoRoot": "/dicom-web",
        "wadoUriRoot": "/dicom-web",
        "imageRendering": "wadors",
        "thumbnailRendering": "wadors",
        "qidoSupportsIncludeField": false
      }
    }
  ]
}
