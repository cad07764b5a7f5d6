"""Structured Reports that point: made by highdicom, and made by hand as OHIF exports them (dcmjs, TID 300)."""

import io

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian, generate_uid

SLICE = {"uid": "1.2.3.5000", "kind": "1.2.840.10008.5.1.4.1.1.2"}


def item(**values):
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def code(value, scheme, meaning):
    return [item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)]


def image(uid, frame=None):
    reference = item(ReferencedSOPClassUID=SLICE["kind"], ReferencedSOPInstanceUID=uid)
    if frame is not None:
        reference.ReferencedFrameNumber = frame
    return item(RelationshipType="SELECTED FROM", ValueType="IMAGE", ReferencedSOPSequence=[reference])


def scoord(graphic, data, *images, **more):
    return item(
        RelationshipType="INFERRED FROM",
        ValueType="SCOORD",
        GraphicType=graphic,
        GraphicData=[float(each) for each in data],
        ContentSequence=list(images),
        **more,
    )


def scoord3d(graphic, data, reference_frame):
    made = item(RelationshipType="INFERRED FROM", ValueType="SCOORD3D", GraphicType=graphic, GraphicData=list(data))
    if reference_frame is not None:
        made.ReferencedFrameOfReferenceUID = reference_frame
    return made


def group(*graphics, label="web annotation", uid="1.2.3.9"):
    """Return a Measurement Group with a measurement for each graphic."""
    return item(
        RelationshipType="CONTAINS",
        ValueType="CONTAINER",
        ConceptNameCodeSequence=code("125007", "DCM", "Measurement Group"),
        ContinuityOfContent="SEPARATE",
        ContentSequence=[
            item(
                RelationshipType="HAS OBS CONTEXT",
                ValueType="TEXT",
                ConceptNameCodeSequence=code("112039", "DCM", "Tracking Identifier"),
                TextValue=label,
            ),
            item(
                RelationshipType="HAS OBS CONTEXT",
                ValueType="UIDREF",
                ConceptNameCodeSequence=code("112040", "DCM", "Tracking Unique Identifier"),
                UID=uid,
            ),
            *(
                item(
                    RelationshipType="CONTAINS",
                    ValueType="NUM",
                    ConceptNameCodeSequence=code("410668003", "SCT", "Length"),
                    ContentSequence=[graphic],
                )
                for graphic in graphics
            ),
        ],
    )


def report(*groups, **values):
    """Return the bytes of a Comprehensive SR after TID 1500."""
    measurements = item(
        RelationshipType="CONTAINS",
        ValueType="CONTAINER",
        ConceptNameCodeSequence=code("126010", "DCM", "Imaging Measurements"),
        ContentSequence=list(groups),
    )
    root = item(
        SOPClassUID=ComprehensiveSRStorage,
        SOPInstanceUID=generate_uid(entropy_srcs=["a report"]),
        Modality="SR",
        ValueType="CONTAINER",
        ConceptNameCodeSequence=code("126000", "DCM", "Imaging Measurement Report"),
        ContentSequence=[measurements],
    )
    for keyword, value in values.items():
        setattr(root, keyword, value)
    root.file_meta = FileMetaDataset()
    root.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content = io.BytesIO()
    root.save_as(content, enforce_file_format=True)
    return content.getvalue()


def by_highdicom(source, *, x=None, y=None, point_mm=None, name="finding 1"):
    """Return the bytes of a Comprehensive 3D SR with one planar region: a point in an image, or in the patient."""
    import highdicom
    from pydicom.sr.codedict import codes

    sr = highdicom.sr
    if point_mm is None:
        reference = sr.SourceImageForRegion.from_source_image(source)
        region = sr.ImageRegion(sr.GraphicTypeValues.POINT, np.array([[x, y]]), source_image=reference)
    else:
        region = sr.ImageRegion3D(
            sr.GraphicTypeValues3D.POINT, np.array([point_mm]), frame_of_reference_uid=source.FrameOfReferenceUID
        )
    found = sr.PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid="1.2.3.77", identifier=name),
        referenced_region=region,
        finding_type=codes.SCT.Nodule,
    )
    person = sr.PersonObserverIdentifyingAttributes(name="Doe^Jane")
    observer = sr.ObserverContext(codes.DCM.Person, person)
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_person_context=observer),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=[found],
    )
    made = sr.Comprehensive3DSR(
        evidence=[source],
        content=content,
        series_instance_uid="1.2.3.100",
        series_number=9,
        sop_instance_uid="1.2.3.101",
        instance_number=1,
        manufacturer="test",
        is_complete=True,
    )
    written = io.BytesIO()
    made.save_as(written, enforce_file_format=True)
    return written.getvalue()


def as_dataset(content):
    return pydicom.dcmread(io.BytesIO(content))
